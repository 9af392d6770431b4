//! Random trees, and random things done to them.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
};

/// SplitMix64: small, and the same everywhere.
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c.txt",
    b"dir",
    b"a.b",
    b"a-b",
    b"a0",
    b"two words",
    b"-dash",
    b"--help",
    b".hidden",
    "\u{fc}n\u{ef}\u{1f525}".as_bytes(),
    b"tab\there",
    b"new\nline",
    b"quote\"d",
    b"back\\slash",
    b" lead",
    b"trail ",
    b"\xff\xfe",
    b"\x01\x1b[31m",
    b".gitignore",
    b".gitmodules",
    b"b a",
    b"x b",
    b"'",
    b"/dev/null",
    b".git",
    b"{",
    b"e => f",
    b"cr\r",
];

const LINES: &[&str] = &[
    "",
    "",
    "}",
    "{",
    "alpha",
    "beta",
    "gamma",
    "  indented",
    "\ttabbed  ",
    "-",
    "+",
    "@@ -1 +1 @@",
    "\\ No newline at end of file",
    "--- a/x",
    "diff --git a/x b/x",
    "ünïcode",
    "trailing \r",
];

/// A directory in which things happen.
pub(super) struct World<'r> {
    root: PathBuf,
    rng: &'r mut Rng,
}

impl<'r> World<'r> {
    pub(super) fn new(root: &Path, rng: &'r mut Rng) -> Self {
        Self { root: root.to_path_buf(), rng }
    }

    /// Fills it with the files of a seed. There are no empty directories: git could not carry them.
    pub(super) fn build(&mut self) {
        for _ in 0..2 + self.rng.below(14) {
            let path = self.fresh_path(3);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            self.make_file_or_link(&path);
        }
    }

    /// Does some random things, and tells what.
    pub(super) fn change(&mut self) -> Vec<String> {
        (0..1 + self.rng.below(14)).map(|_| self.change_one()).collect()
    }

    fn change_one(&mut self) -> String {
        let path = self.some_path();
        let told = |what: &str| format!("{what} {:?}", path.as_os_str());
        let is_file = path.symlink_metadata().is_ok_and(|stat| stat.is_file());
        let is_dir = path.symlink_metadata().is_ok_and(|stat| stat.is_dir());
        match self.rng.below(16) {
            0..=2 => {
                let path = self.fresh_path(2);
                if fs::create_dir_all(path.parent().unwrap()).is_ok() {
                    self.make_file_or_link(&path);
                }
                format!("add {:?}", path.as_os_str())
            }
            3..=5 if is_file => {
                self.edit(&path);
                told("edit")
            }
            6 if is_file => {
                fs::write(&path, fs::read(&path).unwrap()).unwrap();
                told("rewrite")
            }
            6 if is_dir => {
                self.empty_and_refill(&path);
                told("refill")
            }
            7 if is_file => {
                fs::write(&path, b"").unwrap();
                told("truncate")
            }
            8 | 9 => {
                remove(&path);
                told("remove")
            }
            10 | 11 => {
                let to = self.fresh_path(2);
                let inside = to.starts_with(&path);
                if !inside && fs::create_dir_all(to.parent().unwrap()).is_ok() {
                    rename(&path, &to);
                }
                format!("{} to {:?}", told("rename"), to.as_os_str())
            }
            12 if is_file || is_dir => {
                let modes: &[u32] = match is_dir {
                    true => &[0o755, 0o700, 0o775, 0o1777],
                    false => &[0o644, 0o755, 0o755, 0o600, 0o664, 0o4755, 0o100, 0o11],
                };
                let mode = *self.rng.pick(modes);
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                format!("{} {mode:o}", told("chmod"))
            }
            13 => {
                let directory = is_dir && self.rng.one_in(2);
                remove(&path);
                if directory {
                    fs::create_dir(&path).unwrap();
                } else {
                    rustix::fs::mkfifoat(rustix::fs::CWD, &path, 0o644.into()).unwrap();
                }
                told("empty directory or fifo in place of")
            }
            _ => {
                remove(&path);
                if self.rng.one_in(2) {
                    fs::create_dir(&path).unwrap();
                    let inner = path.join(self.name());
                    self.make_file_or_link(&inner);
                } else {
                    self.make_file_or_link(&path);
                }
                told("replace")
            }
        }
    }

    /// Everything that there is, not through links.
    fn paths(&self) -> Vec<PathBuf> {
        let (mut paths, mut dirs) = (Vec::new(), vec![self.root.clone()]);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.symlink_metadata().unwrap().is_dir() {
                    dirs.push(path.clone());
                }
                paths.push(path);
            }
        }
        paths.sort(); // the order of read_dir is not the seed's
        paths
    }

    fn some_path(&mut self) -> PathBuf {
        let paths = self.paths();
        if paths.is_empty() {
            let name = self.name();
            let path = self.root.join(name);
            self.make_file_or_link(&path);
            return path;
        }
        self.rng.pick(&paths).clone()
    }

    fn name(&mut self) -> &'static OsStr {
        loop {
            let name = *self.rng.pick(NAMES);
            let rare = name == b".git" && !self.rng.one_in(3);
            if !rare && !name.contains(&b'/') {
                return OsStr::from_bytes(name);
            }
        }
    }

    /// A path where nothing is, in a directory that may be new.
    fn fresh_path(&mut self, depth: usize) -> PathBuf {
        loop {
            let mut dirs = self.paths();
            dirs.retain(|path| path.symlink_metadata().unwrap().is_dir());
            dirs.push(self.root.clone());
            let mut path = self.rng.pick(&dirs).clone();
            for _ in 0..self.rng.below(depth) {
                path.push(self.name());
            }
            path.push(self.name());
            // Not through a file, nor through a link.
            let free = path
                .ancestors()
                .skip(1)
                .take_while(|dir| *dir != self.root)
                .all(|dir| dir.symlink_metadata().map_or(true, |stat| stat.is_dir()));
            if free && path.symlink_metadata().is_err() && path.as_os_str().len() < 700 {
                return path;
            }
        }
    }

    fn make_file_or_link(&mut self, path: &Path) {
        if self.rng.one_in(5) {
            let targets: &[&[u8]] =
                &[b"a", b"../b", b"/etc/passwd", b"nowhere", b"two\nlines", b"\xff", b"."];
            let target: &&[u8] = self.rng.pick(targets);
            symlink(OsStr::from_bytes(target), path).unwrap();
            return;
        }
        fs::write(path, self.content()).unwrap();
        let mode = *self.rng.pick(&[0o644, 0o644, 0o644, 0o755, 0o600]);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn content(&mut self) -> Vec<u8> {
        match self.rng.below(12) {
            0 => Vec::new(),
            1 => b"\n".repeat(1 + self.rng.below(9)),
            2 => (0..self.rng.below(3000)).map(|_| self.rng.next() as u8).chain([0]).collect(),
            3 if self.rng.one_in(4) => (0..300_000)
                .map(|n| if n % 1000 < 990 { 0 } else { self.rng.next() as u8 })
                .collect(),
            4 => self.lines(20).replace('\n', "\r\n").into_bytes(),
            5 => self.lines(20).trim_end().as_bytes().to_vec(),
            6 => [self.lines(5).as_bytes(), b"\xff\xfe latin\xe9\n"].concat(),
            7 if self.rng.one_in(4) => self.lines(9000).into_bytes(),
            8 => "a".repeat(1 + self.rng.below(9000)).into_bytes(),
            _ => self.lines(40).into_bytes(),
        }
    }

    fn lines(&mut self, most: usize) -> String {
        (0..1 + self.rng.below(most)).map(|_| format!("{}\n", self.rng.pick(LINES))).collect()
    }

    /// As an editor would: some lines are removed, some added, some changed.
    fn edit(&mut self, path: &Path) {
        let old = fs::read(path).unwrap();
        let mut lines: Vec<Vec<u8>> =
            old.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        for _ in 0..1 + self.rng.below(4) {
            let at = self.rng.below(lines.len() + 1);
            match self.rng.below(4) {
                0 if at < lines.len() => drop(lines.remove(at)),
                1 if at < lines.len() => lines[at] = b"changed\n".to_vec(),
                2 => lines.push(b"no newline".to_vec()),
                _ => lines.insert(at, self.lines(2).into_bytes()),
            }
        }
        if self.rng.one_in(2) {
            fs::write(path, lines.concat()).unwrap();
        } else {
            // Most editors write a new file and rename it.
            let swap = path.with_file_name(".swap");
            fs::write(&swap, lines.concat()).unwrap();
            fs::set_permissions(&swap, fs::metadata(path).unwrap().permissions()).unwrap();
            fs::rename(&swap, path).unwrap();
        }
    }

    /// Removes a directory and makes it again with some of the same files: it becomes opaque.
    fn empty_and_refill(&mut self, dir: &Path) {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_file() {
                files.push((path.clone(), fs::read(path).unwrap()));
            }
        }
        files.sort();
        remove(dir);
        fs::create_dir(dir).unwrap();
        for (path, content) in files {
            if self.rng.one_in(2) {
                fs::write(path, content).unwrap();
            }
        }
        if self.rng.one_in(2) {
            let path = dir.join(self.name());
            remove(&path);
            self.make_file_or_link(&path);
        }
    }
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(stat) if stat.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// As mv(1): overlayfs refuses to rename a directory of its lower layer, and then it is copied.
fn rename(from: &Path, to: &Path) {
    if fs::rename(from, to).is_err() {
        let status = Command::new("mv").arg("--").args([from, to]).status().unwrap();
        assert!(status.success(), "mv {from:?} {to:?}");
    }
}
