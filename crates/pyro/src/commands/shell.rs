//! `workspace shell …`.

use std::io::{IsTerminal as _, Read as _};

use jiff::Timestamp;
use pyro_contract::name::WorkspaceRef;
use pyro_contract::shell::{
    MAX_WRITE_BYTES, OfShell, OpenShell, ReadShell, ResizeShell, ShellInfo, ShellOutput, ShellRef,
    ShellState, SignalShell, WriteShell,
};
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::{AttachEvent, AttachInput, AttachOutput, Attachment, Pyro};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::terminal::{self, DetachKeys, Happenings, RawTerminal, Typed, type_on};
use crate::cli::{OfArgs, OpenArgs, ReadArgs, ShellCommand, WriteArgs};
use crate::show;
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(pyro: &Pyro, command: ShellCommand, ui: &Ui) -> Result<u8> {
    match command {
        ShellCommand::Open(args) => return open(pyro, *args, ui).await,
        ShellCommand::List { workspace } => list(pyro, &workspace, ui).await?,
        ShellCommand::Read(args) => read(pyro, args, ui).await?,
        ShellCommand::Write(args) => write(pyro, args, ui).await?,
        ShellCommand::Resize { of, cols, rows } => {
            let OfArgs { workspace, shell } = of;
            let resized = pyro.resize_shell(&ResizeShell { workspace, shell, cols, rows }).await?;
            if ui.json() {
                ui.print_json(&resized)?;
            }
        }
        ShellCommand::Signal { of, signal } => {
            let OfArgs { workspace, shell } = of;
            let signalled = pyro.signal_shell(&SignalShell { workspace, shell, signal }).await?;
            if ui.json() {
                ui.print_json(&signalled)?;
            }
        }
        ShellCommand::Close { of } => {
            let OfArgs { workspace, shell } = of;
            let closed = pyro.close_shell(&OfShell { workspace, shell }).await?;
            if ui.json() {
                ui.print_json(&closed)?;
            } else {
                ui.note(&format!("{} has closed{}", closed.id, ending(&closed)));
            }
        }
        ShellCommand::Attach { of, detach } => {
            return attach(pyro, &of.workspace, &of.shell, detach.detach_keys, ui).await;
        }
    }
    Ok(0)
}

async fn open(pyro: &Pyro, args: OpenArgs, ui: &Ui) -> Result<u8> {
    if args.attach {
        RawTerminal::check()?;
    }
    let request = OpenShell {
        argv: args.argv,
        cwd: args.cwd,
        env: args.env,
        user: args.user,
        name: args.name,
        cols: args.cols,
        rows: args.rows,
        ..OpenShell::new(args.workspace)
    };
    let opened = pyro.open_shell(&request).await?;
    if args.attach {
        let shell = ShellRef::from(&opened.id);
        return attach(pyro, &request.workspace, &shell, args.detach.detach_keys, ui).await;
    }
    if ui.json() {
        ui.print_json(&opened)?;
    } else if args.id_only {
        write_stdout(format!("{}\n", opened.id).as_bytes())?;
    } else {
        let name = opened.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        write_stdout(format!("{}{name} is {}\n", opened.id, opened.state).as_bytes())?;
    }
    Ok(0)
}

async fn list(pyro: &Pyro, workspace: &WorkspaceRef, ui: &Ui) -> Result<()> {
    let shells = pyro.list_shells(workspace).await?;
    if ui.json() {
        return ui.print_json(&shells);
    }
    if shells.is_empty() {
        ui.note(&format!(
            "there are no shells; `pyro workspace shell open {}` opens one",
            workspace.as_str()
        ));
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = shells
        .iter()
        .map(|shell| {
            let command = match shell.argv.as_slice() {
                [] => "login shell".to_owned(),
                argv => show::shell_words(argv).chars().take(60).collect(),
            };
            vec![
                shell.id.to_string(),
                shell.name.as_ref().map_or("-".into(), ToString::to_string),
                format!("{}{}", shell.state, ending(shell)),
                format!("{}x{}", shell.cols, shell.rows),
                shell.attached.to_string(),
                show::bytes(shell.output_bytes),
                show::ago(now, shell.opened_at),
                command,
            ]
        })
        .collect();
    let header = ["ID", "NAME", "STATE", "SIZE", "ATTACHED", "OUTPUT", "OPENED", "COMMAND"];
    write_stdout(show::table(&header, &rows).as_bytes())
}

/// How a shell ended, in brackets; nothing while it runs.
fn ending(shell: &ShellInfo) -> String {
    if shell.state == ShellState::Running {
        return String::new();
    }
    let how = match (&shell.reason, shell.exit_code, shell.signal) {
        (Some(reason), ..) => reason.clone(),
        (None, Some(code), _) => format!("exit {code}"),
        (None, None, Some(signal)) => format!("signal {signal}"),
        (None, None, None) => return String::new(),
    };
    format!(" ({how})")
}

async fn read(pyro: &Pyro, args: ReadArgs, ui: &Ui) -> Result<()> {
    let request = ReadShell {
        cursor: args.cursor,
        max_chars: args.max_chars,
        plain: args.plain,
        raw: args.raw,
        wait_for_idle_ms: args.wait_for_idle_ms,
        timeout_ms: args.timeout_ms,
        ..ReadShell::new(args.of.workspace, args.of.shell)
    };
    let shown = pyro.read_shell(&request).await?;
    if ui.json() {
        return ui.print_json(&shown);
    }
    write_stdout(&bytes_of(&shown)?)?;
    if shown.dropped_bytes > 0 {
        ui.note(&format!("{} before this are not kept any more", show::bytes(shown.dropped_bytes)));
    }
    if shown.timed_out {
        ui.note("it was not idle in time; this is how far it has come");
    }
    if shown.more {
        ui.note(&format!("there is more: read on with --cursor {}", shown.next_cursor));
    }
    Ok(())
}

fn bytes_of(shown: &ShellOutput) -> Result<Vec<u8>> {
    match (&shown.data_base64, &shown.screen) {
        (Some(data), _) => pyro_contract::shell::decode_base64(data),
        (None, Some(_)) => Ok(format!("{}\n", shown.text).into_bytes()),
        (None, None) => Ok(shown.text.clone().into_bytes()),
    }
}

async fn write(pyro: &Pyro, args: WriteArgs, ui: &Ui) -> Result<()> {
    let OfArgs { workspace, shell } = args.of;
    let mut request = WriteShell {
        keys: args.keys,
        enter: args.enter,
        timeout_ms: args.timeout_ms,
        ..WriteShell::new(workspace, shell)
    };
    let nothing = args.text.is_none() && request.keys.is_empty() && !request.enter;
    if args.text.as_deref() == Some("-") || nothing && !std::io::stdin().is_terminal() {
        request.data_base64 = Some(pyro_contract::shell::encode_base64(&stdin()?));
    } else {
        request.text = args.text;
    }
    let written = pyro.write_shell(&request).await?;
    if ui.json() {
        ui.print_json(&written)?;
    }
    Ok(())
}

/// All of stdin, as much as one write takes and a byte more, which is then refused.
fn stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tokio::task::block_in_place(|| {
        std::io::stdin().lock().take(MAX_WRITE_BYTES as u64 + 1).read_to_end(&mut bytes)
    })
    .map_err(|error| Error::io("cannot read stdin", &error))?;
    Ok(bytes)
}

/// Lends our terminal to a shell, until that ends or the keys are pressed.
async fn attach(
    pyro: &Pyro,
    workspace: &WorkspaceRef,
    shell: &ShellRef,
    keys: DetachKeys,
    ui: &Ui,
) -> Result<u8> {
    RawTerminal::check()?;
    let (resized, mut ends) = Happenings::watch()?.split();
    let attachment = pyro.attach_shell(workspace, shell, Some(terminal::size())).await?;
    let Attachment { shell, output, input } = attachment;
    let (typing, typed) = terminal::line();
    let mut terminal = RawTerminal::enter()?;
    let ended = tokio::select! {
        closed = show(output, &mut terminal) => closed.map(Some),
        how = type_on(typing, Some(keys)) => match how {
            Typed::Detached => Ok(None),
            Typed::Ended => Err(Error::new(ErrorCode::Cancelled, "this terminal has hung up")),
        },
        error = pass_on(input, typed, resized) => Err(error),
        error = ends.come() => Err(error),
    };
    drop(terminal);
    match ended? {
        None => {
            write_stdout(b"\n")?;
            ui.note(&format!("detached; {} runs on", shell.id));
            Ok(0)
        }
        Some(closed) => {
            ui.note(&format!("{} has closed{}", closed.id, ending(&closed)));
            let code = closed.exit_code.or(closed.signal.map(|signal| 128 + signal));
            Ok(u8::try_from(code.unwrap_or(0) & 0xff).unwrap_or(1))
        }
    }
}

async fn show(mut output: AttachOutput, terminal: &mut RawTerminal) -> Result<ShellInfo> {
    loop {
        match output.next().await? {
            Some(AttachEvent::Output(bytes)) => terminal.show(&bytes)?,
            Some(AttachEvent::Closed(shell)) => return Ok(shell),
            None => {
                return Err(Error::new(
                    ErrorCode::MachineFailed,
                    "the connection to the workspace was lost",
                )
                .with_hint("`pyro workspace status` tells its state"));
            }
        }
    }
}

/// Passes on what is typed and the size of our terminal; returns what went wrong.
async fn pass_on(
    mut input: AttachInput,
    mut typed: mpsc::Receiver<Vec<u8>>,
    mut resized: Signal,
) -> Error {
    loop {
        let passed = tokio::select! {
            Some(bytes) = typed.recv() => input.write(&bytes).await,
            Some(()) = resized.recv() => input.resize(terminal::size()).await,
            else => return std::future::pending().await,
        };
        if passed.is_err() {
            // The watching half knows better what became of the shell.
            return std::future::pending().await;
        }
    }
}
