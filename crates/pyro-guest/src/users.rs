//! Users and groups, read from `/etc/passwd` and `/etc/group` of the machine. getpwnam(3) of a
//! static glibc would load shared libraries at run time, so it is not used.

use std::fs;

/// As whom to run a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) shell: String,
}

/// There is no such user or group.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {kind} {name:?} in this machine")]
pub(crate) struct NoSuchUser {
    kind: &'static str,
    name: String,
}

/// Finds `user[:group]`, each a name or a number; empty is root.
pub(crate) fn find(wanted: &str) -> Result<User, NoSuchUser> {
    let read = |path| fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
    // A root filesystem may have neither file; root and plain numbers work all the same.
    let passwd = read("/etc/passwd").unwrap_or_default();
    let group = read("/etc/group").unwrap_or_default();
    find_in(&passwd, &group, wanted)
}

fn find_in(passwd: &str, group: &str, wanted: &str) -> Result<User, NoSuchUser> {
    let (user, own_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let mut found = passwd.lines().filter_map(passwd_line);
    let mut found = match found.find(|u| u.name == user || Some(u.uid) == number) {
        Some(found) => found,
        None => nameless(user, number)?,
    };
    found.groups = group
        .lines()
        .filter_map(group_line)
        .filter(|(_, _, members)| members.split(',').any(|member| member == found.name))
        .map(|(_, gid, _)| gid)
        .collect();
    if let Some(wanted) = own_group {
        let number = wanted.parse::<u32>().ok();
        let known = group.lines().filter_map(group_line).find(|(name, ..)| *name == wanted);
        found.gid = known
            .map(|(_, gid, _)| gid)
            .or(number)
            .ok_or_else(|| NoSuchUser { kind: "group", name: wanted.to_owned() })?;
    }
    Ok(found)
}

/// A number that no line names. Container runtimes run such users too, in group 0.
fn nameless(user: &str, number: Option<u32>) -> Result<User, NoSuchUser> {
    let uid = number.ok_or_else(|| NoSuchUser { kind: "user", name: user.to_owned() })?;
    let (name, home) = if uid == 0 { ("root", "/root") } else { (user, "/") };
    Ok(User {
        name: name.to_owned(),
        uid,
        gid: 0,
        groups: Vec::new(),
        home: home.to_owned(),
        shell: "/bin/sh".to_owned(),
    })
}

/// `name:password:uid:gid:gecos:home:shell`, see passwd(5).
fn passwd_line(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
    let shell = fields.next().filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh");
    Some(User {
        name: name.to_owned(),
        uid,
        gid,
        groups: Vec::new(),
        home: home.to_owned(),
        shell: shell.to_owned(),
    })
}

/// `name:password:gid:member,member`, see group(5).
fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        broken line\n\
        dev:x:1000:100:Dev:/home/dev:\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nsudo:x:27:dev,root\ndocker:x:999:dev\n";

    #[test]
    fn nothing_means_root() {
        let user = find_in(PASSWD, GROUP, "").unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (0, 0, "/root"));
        assert_eq!(user.shell, "/bin/bash");
        assert_eq!(user.groups, [27]);
    }

    #[test]
    fn a_name_brings_its_groups_and_defaults() {
        let user = find_in(PASSWD, GROUP, "dev").unwrap();
        assert_eq!((user.uid, user.gid), (1000, 100));
        assert_eq!(user.groups, [27, 999]);
        assert_eq!(user.shell, "/bin/sh");
    }

    #[test]
    fn numbers_need_no_line_and_groups_may_be_named() {
        let user = find_in(PASSWD, GROUP, "4242:docker").unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (4242, 999, "/"));
        assert_eq!(find_in("", "", "7").unwrap().gid, 0);
        assert_eq!(find_in("", "", "").unwrap().name, "root");
    }

    #[test]
    fn unknown_names_are_named_in_the_error() {
        let error = find_in(PASSWD, GROUP, "nobody").unwrap_err();
        assert_eq!(error.to_string(), "there is no user \"nobody\" in this machine");
        assert!(find_in(PASSWD, GROUP, "dev:nogroup").is_err());
    }
}
