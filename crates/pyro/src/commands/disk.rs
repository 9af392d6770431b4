//! `workspace disk …`.

use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use pyro_contract::diff::FileKind;
use pyro_contract::disk::{DiskEntry, DiskExportRequest, DiskListRequest, DiskReadRequest};
use pyro_contract::path::BytePath;
use pyro_contract::{Error, ErrorCode, Result};
use pyro_workspace::Pyro;

use crate::cli::disk::DiskCommand;
use crate::show;
use crate::ui::{Ui, write_stdout};

pub(super) async fn run(pyro: &Pyro, command: DiskCommand, ui: &Ui) -> Result<u8> {
    match command {
        DiskCommand::List { workspace, path, recursive, max_entries } => {
            let path = BytePath::new(path.unwrap_or_else(|| ".".into()).into_vec());
            let request = DiskListRequest { workspace, path, recursive, max_entries };
            list(pyro, &request, ui).await?;
        }
        DiskCommand::Read { workspace, path, offset, max_bytes, content_only } => {
            let path = BytePath::new(path.into_vec());
            let request = DiskReadRequest { workspace, path, offset, max_bytes };
            read(pyro, &request, content_only, ui).await?;
        }
        DiskCommand::Export { workspace, output, force } => {
            let output = utf8(output)?;
            export(pyro, &DiskExportRequest { workspace, output, force }, ui).await?;
        }
    }
    Ok(0)
}

async fn list(pyro: &Pyro, request: &DiskListRequest, ui: &Ui) -> Result<()> {
    let bar = ui.progress();
    let listing = pyro.list_disk(request, &bar.watch()).await;
    bar.finish();
    let listing = listing?;
    if ui.json() {
        return ui.print_json(&listing);
    }
    let rows: Vec<Vec<String>> = listing.entries.iter().map(row).collect();
    write_stdout(show::table(&["MODE", "OWNER", "SIZE", "MODIFIED", "PATH"], &rows).as_bytes())?;
    if listing.truncated {
        ui.note("there is more; --max-entries shows more of it");
    }
    Ok(())
}

fn row(entry: &DiskEntry) -> Vec<String> {
    let kind = show::letter(entry.kind);
    let mut path = entry.path.to_string();
    if let Some(target) = &entry.target {
        path += &format!(" -> {target}");
    }
    vec![
        format!("{kind}{:04o}", entry.mode),
        format!("{}:{}", entry.uid, entry.gid),
        if entry.kind == FileKind::File { show::bytes(entry.size) } else { "-".into() },
        entry.modified_at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        path,
    ]
}

async fn read(pyro: &Pyro, request: &DiskReadRequest, content_only: bool, ui: &Ui) -> Result<()> {
    let file = pyro.read_disk(request).await?;
    if ui.json() {
        return ui.print_json(&file);
    }
    let bytes = file.bytes();
    if std::io::stdout().is_terminal() {
        // A hostile file must not drive the terminal; a pipe gets the very bytes.
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.split('\n').map(show::harmless).collect();
        write_stdout(lines.join("\n").as_bytes())?;
    } else {
        write_stdout(&bytes)?;
    }
    if content_only {
        return Ok(());
    }
    let (path, size) = (&file.entry.path, show::bytes(file.entry.size));
    ui.note(&match file.next_offset {
        Some(next) => format!("{path}, {size}; it goes on: --offset {next}"),
        None => format!("{path}, {size}"),
    });
    Ok(())
}

async fn export(pyro: &Pyro, request: &DiskExportRequest, ui: &Ui) -> Result<()> {
    let bar = ui.progress();
    let image = pyro.export_disk(request, &bar.watch()).await;
    bar.finish();
    let image = image?;
    if ui.json() {
        return ui.print_json(&image);
    }
    if !image.skipped.is_empty() {
        let count = image.skipped.len();
        ui.note(&format!("{count} sockets and devices were left out (--json names them)"));
    }
    let (long, taken) = (show::bytes(image.bytes), show::bytes(image.disk_bytes));
    let (files, output) = (image.files, &image.output);
    write_stdout(
        format!("{output}: {files} files, {long}, of which {taken} are taken\n").as_bytes(),
    )
}

/// JSON has no other strings.
fn utf8(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().map_err(|path| {
        Error::new(ErrorCode::InvalidArgument, format!("the path {} is not UTF-8", path.display()))
            .with_hint("choose a name that is")
    })
}
