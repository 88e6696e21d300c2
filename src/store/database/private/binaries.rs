//! Discovery of the PostgreSQL server binaries. Each system installs them in another
//! directory, and few add them to the search path.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::store::database::private::error::PrivateServerError;

/// Parents of versioned directories, as `(parent, name prefix, subdirectory)`.
const VERSIONED: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),         // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                  // PostgreSQL's own RPMs
    ("/opt/homebrew/opt", "postgresql", "bin"), // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql", "bin"),    // Homebrew on Intel
];

/// Shell script that asks the search path and PostgreSQL's own `pg_config`.
const ON_SEARCH_PATH: &str = "command -v initdb && command -v postgres; pg_config --bindir";

/// A directory with `initdb` and `postgres` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerBinaries {
    pub(crate) directory: PathBuf,
    /// Major version, such as 16.
    pub(crate) major: u32,
}

/// A data directory of an earlier start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExistingData {
    /// Major version that created it.
    pub(crate) major: u32,
    pub(crate) directory: PathBuf,
}

impl ServerBinaries {
    pub(crate) fn initdb(&self) -> PathBuf {
        self.directory.join("initdb")
    }

    pub(crate) fn postgres(&self) -> PathBuf {
        self.directory.join("postgres")
    }
}

/// Selects the binaries of the version of existing data, else the
/// newest. If `configured` is set, only that directory is searched.
pub(crate) fn find(
    configured: Option<&Path>,
    existing_data: Option<ExistingData>,
) -> Result<ServerBinaries, PrivateServerError> {
    let directories = match configured {
        Some(directory) => vec![directory.to_owned()],
        None => candidates(),
    };
    let mut found: Vec<ServerBinaries> =
        directories.iter().filter_map(|d| inspect_directory(d)).collect();
    found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
    choose(found, existing_data).map_err(|error| match (error, configured) {
        (PrivateServerError::NotInstalled { .. }, Some(directory)) => {
            PrivateServerError::NotInstalled { searched: directory.display().to_string() }
        }
        (error, _) => error,
    })
}

/// Selects from `found`, which is sorted newest first.
fn choose(
    found: Vec<ServerBinaries>,
    existing_data: Option<ExistingData>,
) -> Result<ServerBinaries, PrivateServerError> {
    let Some(newest) = found.first().cloned() else {
        let parents: Vec<&str> = VERSIONED.iter().map(|(parent, ..)| *parent).collect();
        let searched = format!("the search path, pg_config, {}", parents.join(", "));
        return Err(PrivateServerError::NotInstalled { searched });
    };
    let Some(ExistingData { major, directory }) = existing_data else { return Ok(newest) };
    let installed: Vec<String> = found.iter().map(|b| b.major.to_string()).collect();
    found.into_iter().find(|binaries| binaries.major == major).ok_or_else(|| {
        PrivateServerError::WrongVersion {
            directory,
            made_by: major,
            installed: installed.join(", "),
        }
    })
}

fn candidates() -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let shell = Command::new("sh").args(["-c", ON_SEARCH_PATH]).stderr(Stdio::null()).output();
    for line in shell.iter().flat_map(|output| output.stdout.split(|&byte| byte == b'\n')) {
        // The command may be a symbolic link out of the directory with the other binaries.
        let path = PathBuf::from(String::from_utf8_lossy(line).into_owned());
        let Ok(real) = path.canonicalize() else { continue };
        if real.is_dir() {
            directories.push(real);
        } else {
            directories.extend(real.parent().map(Path::to_owned));
        }
    }
    for (parent, prefix, below) in VERSIONED {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        directories.extend(
            entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| entry.path().join(below)),
        );
    }
    directories
}

/// The binaries in `directory`, if both exist and `postgres` runs.
fn inspect_directory(directory: &Path) -> Option<ServerBinaries> {
    let directory = directory.canonicalize().ok()?;
    if !directory.join("initdb").is_file() {
        return None;
    }
    let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
    let major = major_version(&String::from_utf8_lossy(&output.stdout))?;
    Some(ServerBinaries { directory, major })
}

/// 15 from `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; also 17 from `17beta1`.
fn major_version(text: &str) -> Option<u32> {
    let number = text.split_whitespace().nth(2)?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(majors: &[u32]) -> Vec<ServerBinaries> {
        majors.iter().map(|&major| ServerBinaries { directory: PathBuf::new(), major }).collect()
    }

    #[test]
    fn the_version_is_read_from_what_postgres_says() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(major_version(debian), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 17beta1"), Some(17));
        assert_eq!(major_version("not found"), None);
    }

    #[test]
    fn existing_data_decides_the_version_else_the_newest() {
        assert_eq!(choose(versions(&[17, 15]), None).unwrap().major, 17);
        let data = || Some(ExistingData { major: 15, directory: PathBuf::from("/data") });
        assert_eq!(choose(versions(&[17, 15]), data()).unwrap().major, 15);
        let refusal = choose(versions(&[17, 16]), data()).unwrap_err().to_string();
        assert!(refusal.contains("PostgreSQL 15") && refusal.contains("17, 16"), "{refusal}");
    }

    #[test]
    fn a_machine_without_a_server_is_told_what_to_install() {
        let empty = Path::new("/nonexistent");
        let refusal = find(Some(empty), None).unwrap_err().to_string();
        assert!(refusal.contains("/nonexistent") && refusal.contains("apt-get install postgresql"));
    }
}
