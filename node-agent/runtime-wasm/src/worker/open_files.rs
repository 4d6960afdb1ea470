//! Open files of components, counted over all instances of the container: `open-at` and the end of a descriptor, in place
//! of the library's. Over the limit a guest is told `insufficient-memory` (POSIX knows a better word, WASI does not).

use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, Resource, ResourceType};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types as p2;
use wasmtime_wasi::p3::bindings::filesystem::types as p3;

use super::guest::{Guest, Linker};

/// The versions that the library's linker has; a guest of another patch version finds them all the same.
const P2: &str = "wasi:filesystem/types@0.2.12";
const P3: &str = "wasi:filesystem/types@0.3.0";
const OPEN: &str = "[method]descriptor.open-at";

type Opening<Path, Open, Flags> = (Resource<Descriptor>, Path, String, Open, Flags);

/// Puts counting versions into the linker, which must allow shadowing.
pub(super) fn count(linker: &mut Linker, with_p3: bool) -> wasmtime::Result<()> {
    let mut types = linker.instance(P2)?;
    types.func_wrap_async(
        OPEN,
        |mut store: StoreContextMut<'_, Guest>,
         (dir, path_flags, path, open, flags): Opening<p2::PathFlags, p2::OpenFlags, p2::DescriptorFlags>| {
            Box::new(async move {
                let guest = store.data_mut();
                if !guest.taken.file() {
                    return Ok((Err(p2::ErrorCode::InsufficientMemory),));
                }
                let mut files = guest.filesystem();
                let opened = p2::HostDescriptor::open_at(&mut files, dir, path_flags, path, open, flags).await;
                match opened {
                    Ok(descriptor) => Ok((Ok(descriptor),)),
                    Err(error) => {
                        guest.taken.file_closed();
                        Ok((Err(error.downcast()?),))
                    }
                }
            })
        },
    )?;
    types.resource("descriptor", ResourceType::host::<Descriptor>(), closed)?;
    if !with_p3 {
        return Ok(());
    }
    let mut types = linker.instance(P3)?;
    types.func_wrap_concurrent(
        OPEN,
        |accessor: &Accessor<Guest>,
         (dir, path_flags, path, open, flags): Opening<p3::PathFlags, p3::OpenFlags, p3::DescriptorFlags>| {
            Box::pin(async move {
                if !accessor.with(|mut store| store.get().taken.file()) {
                    return Ok((Err(p3::ErrorCode::InsufficientMemory),));
                }
                let files = accessor.with_getter::<WasiFilesystem>(|guest| guest.filesystem());
                let opened = <WasiFilesystem as p3::HostDescriptorWithStore<Guest>>::open_at(
                    &files, dir, path_flags, path, open, flags,
                )
                .await;
                match opened {
                    Ok(descriptor) => Ok((Ok(descriptor),)),
                    Err(error) => {
                        accessor.with(|mut store| store.get().taken.file_closed());
                        Ok((Err(error.downcast()?),))
                    }
                }
            })
        },
    )?;
    types.resource("descriptor", ResourceType::host::<Descriptor>(), closed)
}

fn closed(mut store: StoreContextMut<'_, Guest>, descriptor: u32) -> wasmtime::Result<()> {
    let guest = store.data_mut();
    guest
        .filesystem()
        .table
        .delete::<Descriptor>(Resource::new_own(descriptor))?;
    guest.taken.file_closed();
    Ok(())
}
