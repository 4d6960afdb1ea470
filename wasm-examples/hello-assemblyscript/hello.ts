// hello-assemblyscript: a WASI preview1 command in AssemblyScript, written against the raw system interface.

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: i32, iovecs: usize, count: i32, written: usize): i32;

const STDOUT: i32 = 1;
const message = String.UTF8.encode("Hello from AssemblyScript!\n");
const iovec = memory.data(8, 4);
const written = memory.data(4, 4);

export function _start(): void {
  store<u32>(iovec, changetype<usize>(message) as u32);
  store<u32>(iovec, message.byteLength as u32, 4);
  fd_write(STDOUT, iovec, 1, written);
}
