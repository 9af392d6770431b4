//! Reading parts of files, by bytes or by lines.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;

use pyro_wire::v1::{FileChunk, ReadFileRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::stat::{describe, examine, resolve};
use super::{absolute, open_regular, status};

/// Sends a file piece by piece, no faster than the host reads.
pub(crate) fn answer(request: ReadFileRequest) -> ReceiverStream<Result<FileChunk, Status>> {
    let (chunks, stream) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let result = read(&request, |chunk| chunks.blocking_send(Ok(chunk)).is_ok());
        if let Err(status) = result {
            let _ = chunks.blocking_send(Err(status));
        }
    });
    ReceiverStream::new(stream)
}

fn read(request: &ReadFileRequest, send: impl Fn(FileChunk) -> bool) -> Result<(), Status> {
    let asked = absolute(&request.path)?;
    let failed = |error| status(&asked, error);
    let path = resolve(&asked, true).map_err(failed)?;
    let mut file = open_regular(&path)?;
    let meta = file.metadata().map_err(failed)?;
    let mut stat = describe(&meta);
    stat.resolved = path.as_os_str().as_bytes().to_vec().into();
    if meta.len() <= request.examine_up_to {
        examine(&mut file, &mut stat).map_err(failed)?;
    }
    let offset = match request.first_line {
        0 => request.offset,
        line => start_of_line(&mut file, line).map_err(failed)?,
    };
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    if !send(FileChunk { stat: Some(stat), offset, ..FileChunk::default() }) {
        return Ok(());
    }
    let mut lines_left = match (request.first_line, request.last_line) {
        (0, _) | (_, 0) => u64::MAX,
        (first, last) => (last + 1).saturating_sub(first),
    };
    let length = if request.length == 0 { u64::MAX } else { request.length };
    let mut file = file.take(length);
    while lines_left > 0 {
        let mut buffer = vec![0; pyro_wire::CHUNK];
        let length = file.read(&mut buffer).map_err(failed)?;
        buffer.truncate(length);
        if lines_left != u64::MAX {
            keep_lines(&mut buffer, &mut lines_left);
        }
        if length == 0 || !send(FileChunk { data: buffer.into(), ..FileChunk::default() }) {
            return Ok(());
        }
    }
    Ok(())
}

/// Cuts after so many ends of lines.
fn keep_lines(buffer: &mut Vec<u8>, left: &mut u64) {
    for (at, byte) in buffer.iter().enumerate() {
        if *byte == b'\n' {
            *left -= 1;
            if *left == 0 {
                buffer.truncate(at + 1);
                return;
            }
        }
    }
}

/// Where a line begins; the file's end if it has fewer.
fn start_of_line(file: &mut File, line: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut left = line - 1;
    let mut offset = 0;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        for (at, byte) in buffer[..length].iter().enumerate() {
            if *byte == b'\n' {
                left -= 1;
                if left == 0 {
                    return Ok(offset + at as u64 + 1);
                }
            }
        }
        offset += length as u64;
    }
    Ok(offset)
}
