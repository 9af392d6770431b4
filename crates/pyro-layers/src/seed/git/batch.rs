//! Contents of many objects from one `git cat-file --batch`.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Stdio};

use super::program::Git;
use crate::layer::{LayerError, Result};

/// A link's target is shorter than a page.
const SMALL_MAX: u64 = 4096;

/// The objects that were asked for, one after another.
pub(super) struct Batch<'a> {
    git: &'a Git,
    answers: BufReader<ChildStdout>,
}

impl<'a> Batch<'a> {
    /// Asks for all objects and hands their contents to `consume` in the same order.
    pub(super) fn run(
        git: &'a Git,
        objects: &[&[u8]],
        consume: impl FnOnce(&mut Batch<'a>) -> Result<()>,
    ) -> Result<()> {
        // `--buffer`: it need not flush after every object, for nobody waits between them.
        let child = git
            .command(&["cat-file", "--batch", "--buffer"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| git.not_started(&error))?;
        let mut child = Ended(child);
        let (Some(mut questions), Some(answers)) = (child.0.stdin.take(), child.0.stdout.take())
        else {
            return Err(git.misunderstood());
        };
        std::thread::scope(|scope| {
            // Asked from another thread: git stops reading questions while nobody reads answers.
            scope.spawn(move || {
                for object in objects {
                    // It fails when git is gone, which whoever reads the answers will notice.
                    if questions.write_all(&[object, &b"\n"[..]].concat()).is_err() {
                        break;
                    }
                }
            });
            let mut batch = Batch { git, answers: BufReader::with_capacity(256 << 10, answers) };
            let consumed = consume(&mut batch);
            // Ends git before the scope waits for the questions, which may not all be asked.
            drop(child);
            consumed
        })
    }

    /// Begins the next object and gives its size.
    pub(super) fn header(&mut self) -> Result<u64> {
        let mut line = Vec::new();
        let mut start = (&mut self.answers).take(256);
        start.read_until(b'\n', &mut line).map_err(LayerError::io("cannot read from git"))?;
        let text = String::from_utf8_lossy(&line);
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            [_, "blob", size] => size.parse().map_err(|_| self.git.misunderstood()),
            [object, "missing"] => {
                Err(self.git.failed(format!("fatal: object {object} is missing").as_bytes()))
            }
            _ => Err(self.git.misunderstood()),
        }
    }

    /// The content of the object just begun.
    pub(super) fn content(&mut self, size: u64) -> impl Read + '_ {
        (&mut self.answers).take(size)
    }

    /// Ends an object whose content was read.
    pub(super) fn end(&mut self) -> Result<()> {
        let mut newline = [0];
        self.answers.read_exact(&mut newline).map_err(LayerError::io("cannot read from git"))?;
        if newline == *b"\n" { Ok(()) } else { Err(self.git.misunderstood()) }
    }

    /// The whole of a small object.
    pub(super) fn small(&mut self) -> Result<Vec<u8>> {
        let size = self.header()?;
        if size > SMALL_MAX {
            return Err(LayerError::TooLarge(
                "the commit has a symbolic link with a target longer than 4096 bytes".to_owned(),
            ));
        }
        let mut content = Vec::new();
        self.content(size)
            .read_to_end(&mut content)
            .map_err(LayerError::io("cannot read from git"))?;
        self.end()?;
        Ok(content)
    }
}

/// A child that does not outlive its use.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
