//! A person at a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::OpenptFlags;
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::harness::{Host, PYRO};

/// Runs `pyro` on a pseudoterminal, types, and reads what it shows.
pub(crate) struct Person {
    /// What the person types into.
    keyboard: File,
    /// The terminal that `pyro` runs on.
    terminal: OwnedFd,
    child: Child,
    seen: Arc<(Mutex<Vec<u8>>, Condvar)>,
    before: Termios,
}

impl Person {
    pub(crate) fn runs(host: &Host, cols: u16, rows: u16, args: &[&str]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let keyboard = rustix::pty::openpt(flags).unwrap();
        rustix::pty::unlockpt(&keyboard).unwrap();
        let terminal = rustix::pty::ioctl_tiocgptpeer(&keyboard, flags).unwrap();
        let keyboard = File::from(keyboard);
        let person = |terminal: &OwnedFd| terminal.try_clone().unwrap();
        resize(&keyboard, cols, rows);
        let before = tcgetattr(&terminal).unwrap();
        let pyro = host.command(args);
        // The terminal has to be the session's, so that it is told of another size.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(PYRO).args(pyro.get_args()).env("TERM", "xterm-256color");
        for (name, value) in pyro.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(person(&terminal)).stdout(person(&terminal)).stderr(person(&terminal));
        let child = command.spawn().unwrap();
        let seen = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (mut reader, showing) = (keyboard.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                showing.0.lock().unwrap().extend_from_slice(&buffer[..count]);
                showing.1.notify_all();
            }
        });
        Self { keyboard, terminal, child, seen, before }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resizes(&self, cols: u16, rows: u16) {
        resize(&self.keyboard, cols, rows);
    }

    /// Waits until the terminal has shown this, in one piece.
    #[track_caller]
    pub(crate) fn sees(&self, expected: &str) {
        let (seen, changed) = &*self.seen;
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut now = seen.lock().unwrap();
        while !String::from_utf8_lossy(&now).contains(expected) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {expected:?} in {:?}", String::from_utf8_lossy(&now));
            now = changed.wait_timeout(now, left).unwrap().0;
        }
    }

    /// All that was shown so far.
    pub(crate) fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.0.lock().unwrap()).into_owned()
    }

    pub(crate) fn signals(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for the end; the exit code, if it was none of a signal.
    pub(crate) fn leaves(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Fails unless the terminal is as it was.
    #[track_caller]
    pub(crate) fn finds_the_terminal_as_it_was(&self) {
        let now = tcgetattr(&self.terminal).unwrap();
        assert_eq!(now.local_modes, self.before.local_modes);
        assert_eq!(now.input_modes, self.before.input_modes);
        assert_eq!(now.output_modes, self.before.output_modes);
        assert_eq!(now.control_modes, self.before.control_modes);
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: &File, cols: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}
