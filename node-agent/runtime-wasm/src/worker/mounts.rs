//! The directories of a container: opened once, and given to a component when it asks for them. Most requests never do.

use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use skiff_runtime::Mount;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::p2::bindings::filesystem::preopens as p2;
use wasmtime_wasi::p3::bindings::filesystem::preopens as p3;
use wasmtime_wasi::{FsPerms, OpenMode};

use super::guest::{Guest, Linker};

/// Directories of the node, each with its path in the container.
pub(crate) struct Mounts(Vec<(Dir, String)>);

impl Mounts {
    /// Errors: a mount is not a directory.
    pub(crate) fn open(mounts: &[Mount]) -> std::result::Result<Self, String> {
        let open = |mount: &Mount| {
            let file = open_directory(&mount.host_path)
                .map_err(|error| format!("mount {:?} is not a directory: {error}", mount.container_path))?;
            let mode = match mount.read_only {
                true => OpenMode::READ,
                false => OpenMode::READ | OpenMode::WRITE,
            };
            let dir = Dir::new(file, permissions(mount), mode, false);
            Ok((dir, mount.container_path.clone()))
        };
        mounts.iter().map(open).collect::<std::result::Result<_, _>>().map(Self)
    }
}

pub(super) fn permissions(mount: &Mount) -> FsPerms {
    match mount.read_only {
        true => FsPerms::ReadOnly,
        false => FsPerms::ReadWrite,
    }
}

/// As a starting point for paths only: this needs no permission to list it.
fn open_directory(path: &Path) -> Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::PATH;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
}

/// A guest's view of its mounts.
pub(super) struct GuestMounts<'a> {
    pub(super) mounts: &'a Mounts,
    pub(super) table: &'a mut ResourceTable,
}

struct HasMounts;

impl HasData for HasMounts {
    type Data<'a> = GuestMounts<'a>;
}

type Directories = wasmtime::Result<Vec<(Resource<Descriptor>, String)>>;

impl GuestMounts<'_> {
    fn directories(&mut self) -> Directories {
        let mounts = self.mounts.0.iter();
        mounts
            .map(|(dir, path)| Ok((self.table.push(Descriptor::Dir(dir.clone()))?, path.clone())))
            .collect()
    }
}

impl p2::Host for GuestMounts<'_> {
    fn get_directories(&mut self) -> Directories {
        self.directories()
    }
}

impl p3::Host for GuestMounts<'_> {
    fn get_directories(&mut self) -> Directories {
        self.directories()
    }
}

/// In place of the library's, which opens every directory anew for each instance.
pub(super) fn add_to_linker(linker: &mut Linker, p3: bool) -> wasmtime::Result<()> {
    p2::add_to_linker::<Guest, HasMounts>(linker, Guest::mounts)?;
    if p3 {
        p3::add_to_linker::<Guest, HasMounts>(linker, Guest::mounts)?;
    }
    Ok(())
}
