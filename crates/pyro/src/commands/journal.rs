//! `workspace logs | output | events | summary | update` and `workspace command …`.

use std::io::Write as _;

use pyro_contract::command::{
    ListCommands, LogsRequest, OutputRequest, SignalCommand, WaitForCommand,
};
use pyro_contract::exec::{ExecResult, OutputChunk, Stream};
use pyro_contract::journal::{Event, EventsRequest};
use pyro_contract::name::WorkspaceRef;
use pyro_contract::update::{Changes, UpdateRequest};
use pyro_contract::{Error, Result};
use pyro_workspace::{FollowFrom, Followed, Pyro};

use super::exec::explain;
use super::workspace::print;
use crate::cli::{CommandCommand, EventsArgs, LogsArgs, OutputArgs, UpdateArgs};
use crate::show;
use crate::ui::{Ui, write_stdout};

pub(super) async fn logs(pyro: &Pyro, args: LogsArgs, ui: &Ui) -> Result<u8> {
    let LogsArgs { workspace, tail, sequence, since, grep, max_output_bytes, follow } = args;
    if follow {
        return follow_logs(pyro, &workspace, sequence, (tail, since), ui).await;
    }
    // A person who names one command wants to see all of it; a program pages.
    let whole = sequence.is_some() && grep.is_none() && max_output_bytes.is_none() && !ui.json();
    let request = LogsRequest {
        workspace: workspace.clone(),
        tail,
        sequence,
        since,
        grep,
        max_output_bytes: if whole { Some(0) } else { max_output_bytes },
    };
    let commands = pyro.logs(&request).await?;
    if ui.json() {
        ui.print_json(&commands)?;
        return Ok(0);
    }
    if let (true, Some(entry)) = (whole, commands.first()) {
        ui.note(show::command_line(&entry.command).trim_end());
        let request = OutputRequest::new(workspace, entry.command.sequence);
        return print_output(pyro, request, ui).await;
    }
    if commands.is_empty() {
        ui.note("no command of the journal is as asked for");
    }
    write_stdout(show::journal(&commands, workspace.as_str()).as_bytes())?;
    Ok(0)
}

/// Prints output page by page, as the command wrote it.
async fn print_output(pyro: &Pyro, mut request: OutputRequest, ui: &Ui) -> Result<u8> {
    loop {
        let page = pyro.output(&request).await?;
        say_dropped(page.dropped_bytes, ui);
        pass_on(&page.output)?;
        match page.continuation {
            Some(token) if !page.running || !page.output.is_empty() => {
                request = OutputRequest {
                    continuation: Some(token),
                    sequence: None,
                    position: None,
                    stream: None,
                    ..request
                };
            }
            _ => return Ok(0),
        }
    }
}

fn say_dropped(bytes: u64, ui: &Ui) {
    if bytes > 0 {
        ui.note(&format!("{} of output are not in the journal (any more)", show::bytes(bytes)));
    }
}

fn pass_on(chunks: &[OutputChunk]) -> Result<()> {
    chunks.iter().try_for_each(|chunk| write(chunk.stream, chunk.text.as_bytes()))
}

fn write(stream: Stream, bytes: &[u8]) -> Result<()> {
    match stream {
        Stream::Stdout => write_stdout(bytes),
        Stream::Stderr => std::io::stderr()
            .write_all(bytes)
            .map_err(|error| Error::io("cannot write to stderr", &error)),
    }
}

async fn follow_logs(
    pyro: &Pyro,
    workspace: &WorkspaceRef,
    sequence: Option<u64>,
    (tail, since): (Option<u32>, Option<jiff::Timestamp>),
    ui: &Ui,
) -> Result<u8> {
    // From the last event on: what ended before is printed as a log, what runs is followed.
    let last = EventsRequest { tail: Some(1), ..EventsRequest::new(workspace.clone()) };
    let after = pyro.events(&last).await?.last().map_or(0, |event| event.id);
    let mut follower = pyro.follow(workspace, FollowFrom { after, sequence }).await?;
    if sequence.is_none() && !ui.json() {
        let before = LogsRequest { tail, since, ..LogsRequest::new(workspace.clone()) };
        let mut before = pyro.logs(&before).await?;
        before.retain(|entry| !entry.command.running);
        write_stdout(show::journal(&before, workspace.as_str()).as_bytes())?;
    }
    let mut lines = show::FollowedLines::default();
    while let Some(next) = follower.next().await? {
        match next {
            _ if ui.json() => print_followed(&next, ui)?,
            Followed::Output { stream, bytes, .. } if sequence.is_some() => write(stream, &bytes)?,
            Followed::Dropped { bytes, .. } => say_dropped(bytes, ui),
            Followed::Ended(command) if sequence.is_some() => {
                if let Some(outcome) = &command.outcome {
                    explain(outcome, ui);
                }
                ui.note(&format!("command {}: {}", command.sequence, show::ended(&command)));
            }
            other => write_stdout(lines.show(&other).as_bytes())?,
        }
    }
    Ok(0)
}

/// One document a line.
fn print_followed(next: &Followed, ui: &Ui) -> Result<()> {
    match next {
        Followed::Event(_) => Ok(()),
        Followed::Output { sequence, stream, bytes } => ui.print_line(&serde_json::json!({
            "sequence": sequence, "stream": stream, "text": String::from_utf8_lossy(bytes),
        })),
        Followed::Dropped { sequence, bytes } => {
            ui.print_line(&serde_json::json!({ "sequence": sequence, "dropped_bytes": bytes }))
        }
        Followed::Ended(command) => ui.print_line(&serde_json::json!({ "ended": command })),
    }
}

pub(super) async fn output(pyro: &Pyro, args: OutputArgs, ui: &Ui) -> Result<u8> {
    let request = OutputRequest {
        workspace: args.workspace.clone(),
        continuation: args.continuation,
        sequence: args.sequence,
        position: args.position,
        stream: args.stream,
        max_output_bytes: args.max_output_bytes,
        wait_seconds: args.wait_seconds,
    };
    let page = pyro.output(&request).await?;
    if ui.json() {
        ui.print_json(&page)?;
        return Ok(0);
    }
    say_dropped(page.dropped_bytes, ui);
    pass_on(&page.output)?;
    if let Some(token) = page.continuation {
        let workspace = args.workspace.as_str();
        ui.note(&format!("more: pyro workspace output {workspace} --continuation {token}"));
    }
    Ok(0)
}

pub(super) async fn events(pyro: &Pyro, args: EventsArgs, ui: &Ui) -> Result<u8> {
    let EventsArgs { workspace, after, since, tail, wait_seconds, follow } = args;
    let request = EventsRequest { workspace: workspace.clone(), after, since, tail, wait_seconds };
    let events = pyro.events(&request).await?;
    if !follow {
        if ui.json() {
            ui.print_json(&events)?;
        } else {
            write_stdout(show::events(&events).as_bytes())?;
        }
        return Ok(0);
    }
    let mut seen = after;
    for event in &events {
        print_event(event, ui)?;
        seen = event.id;
    }
    if events.is_empty() && (since.is_some() || tail.is_some()) {
        let last = EventsRequest { tail: Some(1), ..EventsRequest::new(workspace.clone()) };
        seen = pyro.events(&last).await?.last().map_or(after, |event| event.id);
    }
    let mut follower = pyro.follow(&workspace, FollowFrom { after: seen, sequence: None }).await?;
    while let Some(next) = follower.next().await? {
        if let Followed::Event(event) = next {
            print_event(&event, ui)?;
        }
    }
    Ok(0)
}

fn print_event(event: &Event, ui: &Ui) -> Result<()> {
    if ui.json() {
        return ui.print_line(event);
    }
    write_stdout(show::events(std::slice::from_ref(event)).as_bytes())
}

pub(super) async fn summary(pyro: &Pyro, workspace: &WorkspaceRef, ui: &Ui) -> Result<u8> {
    let bar = ui.progress();
    let summary = pyro.summary(workspace, &bar.watch()).await;
    bar.finish();
    let summary = summary?;
    if ui.json() {
        ui.print_json(&summary)?;
    } else {
        write_stdout(show::summary(&summary).as_bytes())?;
    }
    Ok(0)
}

pub(super) async fn update(pyro: &Pyro, args: UpdateArgs, ui: &Ui) -> Result<u8> {
    let changes = Changes {
        name: args.name,
        clear_name: args.clear_name,
        labels: args.labels.into_iter().map(|label| (label.key, label.value)).collect(),
        clear_labels: args.clear_labels,
        ttl_seconds: args.ttl_seconds,
        clear_ttl: args.clear_ttl,
    };
    let request = UpdateRequest { workspace: args.workspace, changes };
    print(&pyro.update(&request).await?, ui)?;
    Ok(0)
}

pub(super) async fn command(pyro: &Pyro, command: CommandCommand, ui: &Ui) -> Result<u8> {
    match command {
        CommandCommand::List { workspace, all, tail } => {
            let commands = pyro.list_commands(&ListCommands { workspace, all, tail }).await?;
            if ui.json() {
                ui.print_json(&commands)?;
            } else if commands.is_empty() && !all {
                ui.note("no command runs; --all shows those that ran");
            } else {
                write_stdout(show::commands(&commands).as_bytes())?;
            }
        }
        CommandCommand::Wait { workspace, sequence, timeout_seconds } => {
            let request =
                WaitForCommand { workspace: workspace.clone(), sequence, timeout_seconds };
            let result = pyro.wait_for_command(&request).await?;
            return show_result(pyro, workspace, result, ui).await;
        }
        CommandCommand::Signal { workspace, sequence, signal } => {
            let request = SignalCommand { workspace, sequence, signal };
            let signalled = pyro.signal_command(&request).await?;
            if ui.json() {
                ui.print_json(&signalled)?;
            } else {
                ui.note(&format!("{signal} is sent to command {sequence}"));
            }
        }
    }
    Ok(0)
}

/// The result of a command as if it had been run just now.
async fn show_result(
    pyro: &Pyro,
    workspace: WorkspaceRef,
    result: ExecResult,
    ui: &Ui,
) -> Result<u8> {
    if ui.json() {
        ui.print_json(&result)?;
    } else {
        let request = OutputRequest::new(workspace, result.outcome.sequence);
        print_output(pyro, request, ui).await?;
        explain(&result.outcome, ui);
    }
    Ok(result.outcome.shell_code())
}
