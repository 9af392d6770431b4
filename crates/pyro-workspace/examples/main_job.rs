//! The main job: a workspace from a directory, a command in it, what it changed.
//!
//! ```sh
//! cargo run --example main_job -- target/release/pyro .
//! ```

use std::io::Write as _;
use std::path::PathBuf;

use pyro_contract::exec::{ExecRequest, Stream};
use pyro_contract::workspace::{CreateRequest, Seed};
use pyro_workspace::{ExecEvent, Pyro, Watch, Workspace};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().map_or_else(|| PathBuf::from("pyro"), PathBuf::from);
    let project = arguments.next().unwrap_or_else(|| ".".to_owned());

    let pyro = Pyro::from_environment(std::path::absolute(program)?)?;
    let request = CreateRequest {
        seed: Seed::Path { path: project },
        ..CreateRequest::new("debian:12".parse()?)
    };
    let workspace = pyro.create_workspace(request, &Watch::default()).await?;
    let done = work(&workspace).await;
    // Whatever became of the work.
    workspace.delete().await?;
    Ok(done?)
}

async fn work(workspace: &Workspace) -> pyro_contract::Result<()> {
    let script = "echo improved >> README.md; wc -l *";
    let mut command = workspace.exec(&ExecRequest::new(["sh", "-c", script])).await?;
    while let Some(event) = command.output.next().await? {
        let _ = match event {
            ExecEvent::Output(Stream::Stdout, bytes) => std::io::stdout().write_all(&bytes),
            ExecEvent::Output(Stream::Stderr, bytes) => std::io::stderr().write_all(&bytes),
            ExecEvent::Exit(outcome) => {
                println!("exit code {}", outcome.shell_code());
                Ok(())
            }
        };
    }
    let diff = workspace.diff().await?;
    println!("{} changed", diff.diff.entries.len());
    println!("{}", diff.patch.unwrap_or_default());
    Ok(())
}
