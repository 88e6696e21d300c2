//! Client authentication of the private server: `peer` with a user name map.
//!
//! The server asks the kernel for the operating-system account of the process at the other
//! end of the socket. Only root and the account of segmentd may use the role `segmentd`, a
//! superuser. The server's own account may not, so a fault in another program of that
//! account reaches no SQL.
//!
//! Both files are written at every start, outside the data directory, and named on the
//! server's command line. Existing data thus follows the same rules.

use crate::store::database::private::error::PrivateServerError;
use crate::store::database::private::server_directory::ServerDirectory;
use crate::store::database::private::{ROLE, accounts, files};

const MAP: &str = "segmentd";

/// Writes `pg_hba.conf` and `pg_ident.conf`; returns the server settings that name them.
pub(crate) fn write(server_directory: &ServerDirectory) -> Result<[String; 2], PrivateServerError> {
    let own = accounts::own_name()?;
    let rules = server_directory.sibling_file("hba.conf");
    let map = server_directory.sibling_file("ident.conf");
    for (path, text) in [(&rules, host_rules()), (&map, user_map(&own))] {
        files::write_readable_file(path, &text).map_err(PrivateServerError::io("write", path))?;
    }
    Ok([format!("hba_file={}", rules.display()), format!("ident_file={}", map.display())])
}

fn host_rules() -> String {
    format!("# Written by segmentd at every start.\nlocal all {ROLE} peer map={MAP}\n")
}

fn user_map(own: &str) -> String {
    let mut map = "# Written by segmentd at every start.\n".to_owned();
    map.push_str(&map_line("root"));
    if own != "root" {
        map.push_str(&map_line(own));
    }
    map
}

/// A line of `pg_ident.conf`; inside double quotes a quote is doubled.
fn map_line(account: &str) -> String {
    format!("{MAP} \"{}\" {ROLE}\n", account.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_own_account_are_let_in_and_no_other() {
        let names = |map: &str| map.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(&user_map("root")), [r#"segmentd "root" segmentd"#]);
        let both = [r#"segmentd "root" segmentd"#, r#"segmentd "app" segmentd"#];
        assert_eq!(names(&user_map("app")), both);
        assert_eq!(host_rules().lines().nth(1), Some("local all segmentd peer map=segmentd"));
    }
}
