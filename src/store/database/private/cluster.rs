//! Creation of the data directory with `initdb`, once.

use std::path::PathBuf;
use std::{fs, io};

use tracing::info;

use crate::store::database::private::binaries::Binaries;
use crate::store::database::private::error::PrivateError;
use crate::store::database::private::place::Place;
use crate::store::database::private::{ROLE, files};

/// Name prefix of an unfinished data directory; the process id follows.
const UNFINISHED: &str = "data.new-";

/// Major version that made the data, and the data directory; `None` before the first start.
pub(crate) fn version(place: &Place) -> Result<Option<(u32, PathBuf)>, PrivateError> {
    let data = place.data();
    let file = data.join("PG_VERSION");
    let Some(directory) = place.open_data()? else { return Ok(None) };
    let text = files::read_small(&directory, "PG_VERSION");
    let Some(text) = text.map_err(PrivateError::io("reading", &file))? else { return Ok(None) };
    let unreadable = |_| {
        let source = io::Error::new(io::ErrorKind::InvalidData, "not a version number");
        PrivateError::io("reading", &file)(source)
    };
    Ok(Some((text.trim().parse().map_err(unreadable)?, data)))
}

/// Runs `initdb` unless the data directory exists.
///
/// The data is created under a temporary name and renamed at the end, so a directory called
/// `data` is always complete. The temporary name contains the process id: an `initdb` that
/// outlived a killed segmentd must not share the directory of this one.
pub(crate) async fn create_if_absent(
    place: &Place,
    binaries: &Binaries,
) -> Result<(), PrivateError> {
    let data = place.data();
    let is_there = files::exists_in(&place.open_root()?, "data");
    if is_there.map_err(PrivateError::io("inspecting", &data))? {
        return Ok(());
    }
    remove_unfinished(place)?;
    info!(directory = %data.display(), version = binaries.major, "creating the private database");
    let unfinished = place.root().join(format!("{UNFINISHED}{}", std::process::id()));
    let output = place
        .command(&binaries.initdb())
        .arg("--pgdata")
        .arg(&unfinished)
        .args(["--username", ROLE, "--encoding", "UTF8", "--locale", "C"])
        // Applies only to a server started by hand: segmentd names its own authentication
        // files.
        .args(["--auth-local", "peer", "--auth-host", "reject"])
        .output()
        .await
        .map_err(PrivateError::io("running", &binaries.initdb()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(PrivateError::Initdb { output: text });
    }
    fs::rename(&unfinished, &data).map_err(PrivateError::io("renaming", &unfinished))
}

fn remove_unfinished(place: &Place) -> Result<(), PrivateError> {
    let listing = fs::read_dir(place.root()).map_err(PrivateError::io("listing", place.root()))?;
    for entry in listing.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let path = entry.path();
            fs::remove_dir_all(&path).map_err(PrivateError::io("removing", &path))?;
        }
    }
    Ok(())
}
