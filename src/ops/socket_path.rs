//! A Unix socket at a path that gate after gate stands at: bound beside it, and put there by a rename once it is served.
//!
//! Only the user of the gate may connect, and root. What stands at the path when a gate ends is removed by the one that put
//! it there and by no other.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::chance;

/// The place of a socket that is ours.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// Where the socket stands until this gate serves; none once it stands at the path.
    fresh: Option<PathBuf>,
    /// Which file is ours once it stands at the path.
    inode: Option<u64>,
}

impl SocketPath {
    /// Binds beside the path, which stays that of the gate before until [`SocketPath::take_place`].
    pub fn bind(path: &Path) -> io::Result<(UnixListener, Self)> {
        // Chance, and not the number of the process: two containers have two processes of one number. Short, since the path
        // of a socket may have 107 octets.
        let [word] = chance::words();
        let fresh = path.with_file_name(format!(".{:08x}", word >> 32));
        let listener = UnixListener::bind(&fresh)?;
        let res = Self { path: path.to_owned(), fresh: Some(fresh.clone()), inode: None };
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        Ok((listener, res))
    }

    /// Puts the socket in the place of the one before.
    pub fn take_place(&mut self) -> io::Result<()> {
        let Some(fresh) = &self.fresh else { return Ok(()) };
        let inode = std::fs::symlink_metadata(fresh)?.ino();
        std::fs::rename(fresh, &self.path)?;
        (self.fresh, self.inode) = (None, Some(inode));
        Ok(())
    }

    /// Leaves the path to whoever stands there.
    pub fn leave(&mut self) {
        self.inode = None;
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // A failure leaves a path that refuses, which the next gate replaces.
        if let Some(fresh) = &self.fresh {
            let _ = std::fs::remove_file(fresh);
        }
        let is_ours = |inode| std::fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == inode);
        if self.inode.is_some_and(is_ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The user at the other end, where that is neither ours nor root.
pub fn stranger(stream: &UnixStream) -> io::Result<Option<u32>> {
    let user = stream.peer_cred()?.uid();
    let is_trusted = user == 0 || user == rustix::process::geteuid().as_raw();
    Ok((!is_trusted).then_some(user))
}
