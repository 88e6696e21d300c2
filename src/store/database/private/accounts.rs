//! Operating-system accounts: the one that runs the server, and the names that may connect
//! to it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::store::database::private::error::PrivateServerError;
use crate::store::database::private::files::UnixAccount;

const PASSWD: &str = "/etc/passwd";

/// The account for a server that root starts: `postgres`, else `nobody`.
pub(crate) fn unprivileged() -> Result<UnixAccount, PrivateServerError> {
    let accounts = passwd()?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| account_in(&accounts, name))
        .ok_or(PrivateServerError::NoAccount)
}

/// The account name of this process, as the server resolves it for a connection.
pub(crate) fn own_name() -> Result<String, PrivateServerError> {
    let uid = rustix::process::geteuid().as_raw();
    if let Some(name) = name_in(&passwd()?, uid) {
        return Ok(name);
    }
    // Accounts of a directory service (LDAP) are not in the file.
    let output = Command::new("id").arg("-un").output();
    let output = output.map_err(PrivateServerError::io("run", Path::new("id")))?;
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !name.is_empty() {
        Ok(name)
    } else {
        Err(PrivateServerError::NoName { uid })
    }
}

fn passwd() -> Result<String, PrivateServerError> {
    let path = Path::new(PASSWD);
    fs::read_to_string(path).map_err(PrivateServerError::io("read", path))
}

/// The account `name` in the text of `/etc/passwd` (`name:x:uid:gid:…`). Never an alias of
/// root.
fn account_in(passwd: &str, name: &str) -> Option<UnixAccount> {
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?
        .skip(1);
    let uid = fields.next()?.parse().ok().filter(|&uid| uid != 0)?;
    let gid = fields.next()?.parse().ok()?;
    Some(UnixAccount { uid, gid })
}

/// The first name of `uid`.
fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n\
        toor:x:0:0::/root:/bin/sh\n";

    #[test]
    fn accounts_are_read_from_passwd() {
        assert_eq!(account_in(PASSWD, "postgres"), Some(UnixAccount { uid: 101, gid: 104 }));
        assert_eq!(account_in(PASSWD, "nobody"), None);
        assert_eq!(account_in(PASSWD, "toor"), None);
        assert_eq!(name_in(PASSWD, 0).as_deref(), Some("root"));
        assert_eq!(name_in(PASSWD, 101).as_deref(), Some("postgres"));
        assert_eq!(name_in(PASSWD, 7), None);
    }
}
