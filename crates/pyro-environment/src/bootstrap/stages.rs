//! `mmdebstrap`'s messages as stages that a user understands.

/// The stages of a bootstrap in order: the start of the program's message, and our words for it.
const STAGES: [(&str, &str); 7] = [
    ("running apt-get update", "reading the package lists"),
    ("downloading packages", "downloading packages"),
    ("extracting archives", "unpacking the essential packages"),
    ("installing essential packages", "installing the essential packages"),
    ("installing remaining packages", "installing the other packages"),
    ("cleaning package lists", "tidying up"),
    ("creating tarball", "writing the image"),
];

/// How many stages there are.
pub(super) const COUNT: u64 = STAGES.len() as u64;

/// The number (from 0) and name of the stage that a line of standard error begins.
pub(super) fn stage(line: &str) -> Option<(u64, &'static str)> {
    let message = line.strip_prefix("I: ")?;
    (0..)
        .zip(STAGES)
        .find_map(|(number, (start, stage))| message.starts_with(start).then_some((number, stage)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_stages_and_other_lines_do_not() {
        assert_eq!(stage("I: downloading packages with apt..."), Some((1, "downloading packages")));
        assert_eq!(stage("I: creating tarball..."), Some((6, "writing the image")));
        assert_eq!(stage("I: success in 4.9 seconds"), None);
        assert_eq!(stage("downloading packages with apt..."), None);
        assert_eq!(stage("W: downloading packages"), None);
    }
}
