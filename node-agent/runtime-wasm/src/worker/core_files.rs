//! Open files of core modules. Components keep theirs in a table with a bound; the library's preview 1 has none, so its
//! three calls that open and close are counted here.

use wasmtime::{AsContextMut, Caller, Extern};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as p1;
use wiggle::GuestMemory;

use super::guest::{CoreGuest, CoreLinker};
use super::hits::Limit;
use crate::limits;

/// `errno.mfile`: too many open files.
const TOO_MANY: i32 = 33;
const MODULE: &str = "wasi_snapshot_preview1";

/// Puts counting versions of `path_open`, `fd_close` and `fd_renumber` into the linker.
pub(super) fn count(linker: &mut CoreLinker) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.func_wrap_async(
        MODULE,
        "path_open",
        |mut caller: Caller<'_, CoreGuest>,
         (dir, lookup, path, length, how, base, inheriting, flags, out): (
            i32,
            i32,
            i32,
            i32,
            i32,
            i64,
            i64,
            i32,
            i32,
        )| {
            Box::new(async move {
                if caller.data().open_files >= limits::RESOURCES_MAX {
                    caller.data().hits.count(Limit::Handles);
                    return Ok(TOO_MANY);
                }
                if !caller.data().taken.file() {
                    return Ok(TOO_MANY);
                }
                let (mut memory, guest) = memory(&mut caller)?;
                let wasi = &mut guest.wasi;
                let errno = p1::path_open(
                    wasi,
                    &mut memory,
                    dir,
                    lookup,
                    path,
                    length,
                    how,
                    base,
                    inheriting,
                    flags,
                    out,
                )
                .await?;
                match errno {
                    0 => guest.open_files += 1,
                    _ => guest.taken.file_closed(),
                }
                Ok(errno)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_close",
        |mut caller: Caller<'_, CoreGuest>, (descriptor,): (i32,)| {
            Box::new(async move {
                let (mut memory, guest) = memory(&mut caller)?;
                let errno = p1::fd_close(&mut guest.wasi, &mut memory, descriptor).await?;
                guest.closed(errno);
                Ok(errno)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_renumber",
        |mut caller: Caller<'_, CoreGuest>, (from, to): (i32, i32)| {
            Box::new(async move {
                let (mut memory, guest) = memory(&mut caller)?;
                let errno = p1::fd_renumber(&mut guest.wasi, &mut memory, from, to).await?;
                guest.closed(errno);
                Ok(errno)
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The guest's memory and its store data, with the bytes that this call may copy set.
fn memory<'a>(caller: &'a mut Caller<'_, CoreGuest>) -> wasmtime::Result<(GuestMemory<'a>, &'a mut CoreGuest)> {
    let exported = caller.get_export("memory").and_then(Extern::into_memory);
    let memory = exported.ok_or_else(|| wasmtime::Error::msg("missing required memory export"))?;
    let (bytes, guest) = memory.data_and_store_mut(caller.as_context_mut());
    p1::WasiSnapshotPreview1::set_hostcall_fuel(&mut guest.wasi, limits::HOSTCALL_FUEL);
    Ok((GuestMemory::Unshared(bytes), guest))
}
