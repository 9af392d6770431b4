//! From a command's pipes to the call's stream, no faster than the host reads.

use std::io;
use std::os::fd::AsFd;

use pyro_wire::v1::ExecOutput;
use pyro_wire::v1::exec_output::Output;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tonic::Status;

/// What a call sends back.
pub(crate) type Reply = Result<ExecOutput, Status>;

/// The host dropped the call.
pub(crate) struct Dropped;

#[derive(Clone, Copy)]
enum Kind {
    Stdout,
    Stderr,
}

/// One of the two pipes; none once it is closed at the other end.
struct Source {
    kind: Kind,
    pipe: Option<pipe::Receiver>,
}

impl Source {
    /// Waits until there is something to read, or for ever if there never will be.
    async fn readable(&self) {
        match &self.pipe {
            Some(pipe) if pipe.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    /// Takes what the runtime knows to be there, at most `most` bytes, without waiting.
    fn take(&mut self, most: usize) -> Option<ExecOutput> {
        let mut buffer = vec![0; most];
        let read = self.pipe.as_ref()?.try_read(&mut buffer);
        self.taken(read, buffer)
    }

    /// Takes what is there, at most `most` bytes, without waiting. Asks the kernel itself: the
    /// runtime may not have heard yet of what was written a moment ago, and would say that there
    /// is nothing.
    fn take_unannounced(&mut self, most: usize) -> Option<ExecOutput> {
        let mut buffer = vec![0; most];
        let read = rustix::io::read(self.pipe.as_ref()?.as_fd(), &mut buffer[..]);
        self.taken(read.map_err(io::Error::from), buffer)
    }

    fn taken(&mut self, read: io::Result<usize>, mut buffer: Vec<u8>) -> Option<ExecOutput> {
        match read {
            Ok(0) => self.pipe = None,
            Ok(length) => {
                buffer.truncate(length);
                let output = match self.kind {
                    Kind::Stdout => Output::Stdout(buffer.into()),
                    Kind::Stderr => Output::Stderr(buffer.into()),
                };
                return Some(ExecOutput { output: Some(output) });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.pipe = None,
        }
        None
    }

    /// Bytes in the pipe now. See FIONREAD in pipe(7).
    fn waiting(&self) -> usize {
        let asked = self.pipe.as_ref().map(|pipe| rustix::io::ioctl_fionread(pipe.as_fd()));
        asked.and_then(Result::ok).unwrap_or(0) as usize
    }
}

/// Both pipes of a command.
pub(crate) struct Outputs {
    stdout: Source,
    stderr: Source,
}

impl Outputs {
    pub(crate) fn new(stdout: pipe::Receiver, stderr: pipe::Receiver) -> Self {
        Self {
            stdout: Source { kind: Kind::Stdout, pipe: Some(stdout) },
            stderr: Source { kind: Kind::Stderr, pipe: Some(stderr) },
        }
    }

    /// Passes on one chunk. Nothing is read before there is room to send it, so no buffer is held
    /// while waiting, and a reader that stalls stalls the command. May be cancelled at any await
    /// without losing a byte.
    pub(crate) async fn forward(&mut self, replies: &mpsc::Sender<Reply>) -> Result<(), Dropped> {
        let room = replies.reserve().await.map_err(|_| Dropped)?;
        let source = tokio::select! {
            () = self.stdout.readable() => &mut self.stdout,
            () = self.stderr.readable() => &mut self.stderr,
        };
        if let Some(chunk) = source.take(pyro_wire::CHUNK) {
            room.send(Ok(chunk));
        }
        Ok(())
    }

    /// Reads one chunk that nobody will hear.
    pub(crate) async fn forget(&mut self) {
        let source = tokio::select! {
            () = self.stdout.readable() => &mut self.stdout,
            () = self.stderr.readable() => &mut self.stderr,
        };
        source.take(4096);
    }

    /// Passes on what the ended command left in its pipes, and not a byte that those who still hold
    /// them write meanwhile.
    pub(crate) async fn finish(&mut self, replies: &mpsc::Sender<Reply>) -> Result<(), Dropped> {
        let left = [self.stdout.waiting(), self.stderr.waiting()];
        for (source, mut left) in [&mut self.stdout, &mut self.stderr].into_iter().zip(left) {
            while left > 0 {
                let room = replies.reserve().await.map_err(|_| Dropped)?;
                let Some(chunk) = source.take_unannounced(left.min(pyro_wire::CHUNK)) else {
                    break;
                };
                if let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = &chunk.output {
                    left -= bytes.len().min(left);
                }
                room.send(Ok(chunk));
            }
        }
        Ok(())
    }

    /// Reads on and forgets, so that daemons which kept the pipes are not killed by SIGPIPE.
    pub(crate) fn discard(self) {
        for mut source in [self.stdout, self.stderr] {
            if source.pipe.is_none() {
                continue;
            }
            tokio::spawn(async move {
                while source.pipe.is_some() {
                    source.readable().await;
                    source.take(4096);
                }
            });
        }
    }
}
