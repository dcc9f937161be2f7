//! Replacing a file so that it is whole at every moment.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Links followed before a path counts as a circle, as on Linux.
const MOST_LINKS: usize = 40;

/// Replaces a file, or makes it. Whoever reads it, after a kill or a power cut too, finds the old content or the new.
///
/// The content goes to a temporary file beside the target, and reaches the disk before the name does. The target of a
/// symbolic link is replaced, not the link. The permissions stay, and the owner where the process may give files away. If
/// anything fails, the temporary file is removed.
pub fn replace(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let target = resolved(path)?;
    let old = match fs::metadata(&target) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return Err(refused("is a folder, pipe or device; name a file"));
    }
    if old.as_ref().is_some_and(|old| old.permissions().readonly()) {
        return Err(refused(
            "is read-only; make it writable, or name another file",
        ));
    }
    let name = target.file_name();
    let name = name.ok_or_else(|| refused("has no file name; name a file"))?;
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Opened now: a folder that cannot be synchronized is found out before the file is replaced. Elsewhere than on Unix, a
    // folder cannot be opened.
    #[cfg(unix)]
    let opened = File::open(folder)?;
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut options = tempfile::Builder::new();
    options.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Those of the old file from the beginning, or as any new file has: what the process's mask leaves of them.
        let new = fs::Permissions::from_mode(0o666);
        options.permissions(old.as_ref().map_or(new, fs::Metadata::permissions));
    }
    let temporary = options.tempfile_in(folder)?;
    let mut writer = BufWriter::with_capacity(1 << 16, temporary.as_file());
    content(&mut writer)?;
    writer.flush()?;
    drop(writer);
    if let Some(old) = old {
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt, fchown};
            // Only a privileged process may. For others, the file becomes their own.
            let _ = fchown(temporary.as_file(), Some(old.uid()), Some(old.gid()));
        }
        temporary.as_file().set_permissions(old.permissions())?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(&target).map_err(|error| error.error)?;
    // The name is on the disk when the folder is. Some file systems know no such request.
    #[cfg(unix)]
    match opened.sync_all() {
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
        _ => {}
    }
    Ok(())
}

/// The path with symbolic links followed, also to a file that is not there.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(refused("is a link in a circle; name a file"))
}

fn refused(problem: &'static str) -> io::Error {
    io::Error::other(problem)
}
