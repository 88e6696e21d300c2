//! Creation of the data directory with `initdb`, once.

use std::{fs, io};

use tracing::info;

use crate::store::database::private::binaries::{ExistingData, ServerBinaries};
use crate::store::database::private::error::PrivateServerError;
use crate::store::database::private::server_directory::ServerDirectory;
use crate::store::database::private::{ROLE, files};

/// Name prefix of an unfinished data directory; the process id follows.
const UNFINISHED: &str = "data.new-";

/// The existing data; `None` before the first start.
pub(crate) fn existing_data(
    server_directory: &ServerDirectory,
) -> Result<Option<ExistingData>, PrivateServerError> {
    let data = server_directory.data();
    let file = data.join("PG_VERSION");
    let Some(directory) = server_directory.open_data()? else { return Ok(None) };
    let text = files::read_small_file(&directory, "PG_VERSION");
    let Some(text) = text.map_err(PrivateServerError::io("read", &file))? else {
        return Ok(None);
    };
    let Ok(major) = text.trim().parse() else {
        let invalid = io::Error::new(io::ErrorKind::InvalidData, "not a version number");
        return Err(PrivateServerError::io("read", &file)(invalid));
    };
    Ok(Some(ExistingData { major, directory: data }))
}

/// Runs `initdb` unless the data directory exists.
///
/// The data is created under a temporary name and renamed at the end, so a directory called
/// `data` is always complete. The temporary name contains the process id: an `initdb` that
/// outlived a killed segmentd must not share the directory of this one.
pub(crate) async fn create_if_absent(
    server_directory: &ServerDirectory,
    binaries: &ServerBinaries,
) -> Result<(), PrivateServerError> {
    let data = server_directory.data();
    let exists = files::exists_in(&server_directory.open_root()?, "data");
    if exists.map_err(PrivateServerError::io("inspect", &data))? {
        return Ok(());
    }
    remove_unfinished(server_directory)?;
    info!(directory = %data.display(), version = binaries.major, "creating the private database");
    let unfinished = server_directory.root().join(format!("{UNFINISHED}{}", std::process::id()));
    let output = server_directory
        .command(&binaries.initdb())
        .arg("--pgdata")
        .arg(&unfinished)
        .args(["--username", ROLE, "--encoding", "UTF8", "--locale", "C"])
        // Applies only to a server started by hand: segmentd names its own authentication
        // files.
        .args(["--auth-local", "peer", "--auth-host", "reject"])
        .output()
        .await
        .map_err(PrivateServerError::io("run", &binaries.initdb()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(PrivateServerError::Initdb { output: text });
    }
    fs::rename(&unfinished, &data).map_err(PrivateServerError::io("rename", &unfinished))
}

fn remove_unfinished(server_directory: &ServerDirectory) -> Result<(), PrivateServerError> {
    let listing = fs::read_dir(server_directory.root())
        .map_err(PrivateServerError::io("list", server_directory.root()))?;
    for entry in listing.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(PrivateServerError::io("remove", &path))?;
        }
    }
    Ok(())
}
