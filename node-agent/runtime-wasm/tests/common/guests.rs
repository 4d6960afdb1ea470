//! Guests as text: commands of WASI preview 1, command components, and server components.

use super::component;

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the fixture's text")
}

/// A preview 1 command whose `_start` is this body.
pub fn command(imports: &str, rest: &str) -> Vec<u8> {
    wat(&format!("(module {imports} (memory (export \"memory\") 1) {rest})"))
}

const EXIT: &str = r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#;
const WRITE: &str =
    r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))"#;
const POLL: &str =
    r#"(import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#;

pub fn exits(code: i32) -> Vec<u8> {
    command(
        EXIT,
        &format!(r#"(func (export "_start") (call $exit (i32.const {code})))"#),
    )
}

/// Sleeps an hour at a time.
pub fn sleeps() -> Vec<u8> {
    command(
        POLL,
        r#"(func (export "_start")
            (i32.store (i32.const 16) (i32.const 1))
            (i64.store (i32.const 24) (i64.const 3600000000000))
            (loop $again (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))) (br $again)))"#,
    )
}

/// Writes a line, then sleeps that long.
pub fn says_and_sleeps(nanos: u64) -> Vec<u8> {
    command(
        &format!("{POLL} {WRITE}"),
        &format!(
            r#"(data (i32.const 256) "good night\n")
            (func (export "_start")
                (i32.store (i32.const 200) (i32.const 256))
                (i32.store (i32.const 204) (i32.const 11))
                (drop (call $write (i32.const 1) (i32.const 200) (i32.const 1) (i32.const 208)))
                (i32.store (i32.const 16) (i32.const 1))
                (i64.store (i32.const 24) (i64.const {nanos}))
                (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))"#
        ),
    )
}

/// Asks for the time and for randomness, for ever.
pub fn storms() -> Vec<u8> {
    command(
        r#"(import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))"#,
        r#"(func (export "_start")
            (loop $l
                (drop (call $now (i32.const 1) (i64.const 1) (i32.const 0)))
                (drop (call $random (i32.const 8) (i32.const 8)))
                (br $l)))"#,
    )
}

/// Writes so many empty buffers at once and exits with the errno.
pub fn writes_buffers(count: u32) -> Vec<u8> {
    command(
        &format!("{WRITE} {EXIT}"),
        &format!(
            r#"(func (export "_start")
                (drop (memory.grow (i32.const {pages})))
                (call $exit (call $write (i32.const 1) (i32.const 65536) (i32.const {count}) (i32.const 0))))"#,
            pages = ((count * 8) >> 16) + 1
        ),
    )
}

/// Waits for so many clocks at once and exits with the errno.
pub fn polls(count: u32) -> Vec<u8> {
    command(
        &format!("{POLL} {EXIT}"),
        &format!(
            r#"(func (export "_start")
                (drop (memory.grow (i32.const {pages})))
                (call $exit (call $poll (i32.const 65536) (i32.const {events}) (i32.const {count}) (i32.const 0))))"#,
            pages = ((count * (48 + 32)) >> 16) + 1,
            events = 65536 + count * 48
        ),
    )
}

/// Waits for the end of stdin, then exits with 5.
pub fn heeds_stdin() -> Vec<u8> {
    let read = r#"(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))"#;
    command(
        &format!("{read} {EXIT}"),
        r#"(func (export "_start")
            (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (i32.const 16))
            (loop $again
                (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))
                (br_if $again (i32.load (i32.const 32))))
            (call $exit (i32.const 5)))"#,
    )
}

/// Writes to stdout what it reads from stdin, to its end.
pub fn echoes() -> Vec<u8> {
    let read = r#"(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))"#;
    command(
        &format!("{read} {WRITE}"),
        r#"(func (export "_start")
            (loop $again
                (i32.store (i32.const 0) (i32.const 1024))
                (i32.store (i32.const 4) (i32.const 4096))
                (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))
                (if (i32.load (i32.const 32)) (then
                    (i32.store (i32.const 4) (i32.load (i32.const 32)))
                    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 36)))
                    (br $again)))))"#,
    )
}

pub fn prints(text: &str) -> Vec<u8> {
    let escaped = text.replace('\n', "\\n");
    command(
        WRITE,
        &format!(
            r#"(data (i32.const 64) "{escaped}")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 64))
                (i32.store (i32.const 4) (i32.const {}))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))))"#,
            text.len()
        ),
    )
}

/// Writes 64 KiB without a newline, again and again, `times` times.
pub fn floods(byte: &str, times: u32) -> Vec<u8> {
    command(
        WRITE,
        &format!(
            r#"(func (export "_start") (local $left i32)
                (memory.fill (i32.const 64) (i32.const {byte}) (i32.const 60000))
                (i32.store (i32.const 0) (i32.const 64))
                (i32.store (i32.const 4) (i32.const 60000))
                (local.set $left (i32.const {times}))
                (loop $again
                    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
                    (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"#
        ),
    )
}

/// Prints its arguments and environment, each ended by a NUL that becomes a newline.
pub fn prints_surroundings() -> Vec<u8> {
    let get = |name: &str| {
        format!(
            r#"(import "wasi_snapshot_preview1" "{name}_get" (func ${name}_get (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "{name}_sizes_get" (func ${name}_sizes (param i32 i32) (result i32)))"#
        )
    };
    let part = |name: &str| {
        format!(
            r#"(drop (call ${name}_sizes (i32.const 0) (i32.const 4)))
            (drop (call ${name}_get (i32.const 1024) (i32.const 4096)))
            (local.set $i (i32.const 0))
            (block $done (loop $next
                (br_if $done (i32.ge_u (local.get $i) (i32.load (i32.const 4))))
                (if (i32.eqz (i32.load8_u (i32.add (i32.const 4096) (local.get $i))))
                    (then (i32.store8 (i32.add (i32.const 4096) (local.get $i)) (i32.const 10))))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br $next)))
            (i32.store (i32.const 16) (i32.const 4096))
            (i32.store (i32.const 20) (i32.load (i32.const 4)))
            (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 32)))"#
        )
    };
    command(
        &format!("{} {} {WRITE}", get("args"), get("environ")),
        &format!(
            r#"(func (export "_start") (local $i i32) {} {})"#,
            part("args"),
            part("environ")
        ),
    )
}

/// Creates `file` in its first preopen (descriptor 3) and exits with the errno.
pub fn creates_file() -> Vec<u8> {
    let open = r#"(import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
    command(
        &format!("{open} {EXIT}"),
        r#"(data (i32.const 64) "file")
        (func (export "_start")
            (call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4)
                (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 128))))"#,
    )
}

/// Opens its first preopen again and again until that fails, closes one, opens one more, and exits with the errno of
/// the failure if that last one succeeded.
pub fn hogs_files() -> Vec<u8> {
    let open = r#"(import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))"#;
    command(
        &format!("{open} {EXIT}"),
        r#"(data (i32.const 64) ".")
        (func $one (result i32)
            (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 1)
                (i32.const 2) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 128)))
        (func (export "_start") (local $errno i32)
            (loop $l (br_if $l (i32.eqz (local.tee $errno (call $one)))))
            (drop (call $close (i32.load (i32.const 128))))
            (if (call $one) (then (call $exit (i32.const 99))))
            (call $exit (local.get $errno)))"#,
    )
}

pub fn traps() -> Vec<u8> {
    command(
        "",
        r#"(func $boom unreachable) (func $caller (call $boom)) (func (export "_start") (call $caller))"#,
    )
}

pub fn spins() -> Vec<u8> {
    command("", r#"(func $spinning (export "_start") (loop $l (br $l)))"#)
}

pub fn overflows_stack() -> Vec<u8> {
    command(
        "",
        r#"(func $f (param i32) (result i32) (i32.add (i32.const 1) (call $f (local.get 0))))
        (func (export "_start") (drop (call $f (i32.const 0))))"#,
    )
}

/// Grows its memory page by page and touches each, for ever.
pub fn hogs_memory() -> Vec<u8> {
    command(
        "",
        r#"(func (export "_start")
        (loop $l (drop (memory.grow (i32.const 16))) (br $l)))"#,
    )
}

pub fn hogs_tables() -> Vec<u8> {
    command(
        "",
        r#"(table $t 1 funcref)
        (func (export "_start") (loop $l (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $l)))"#,
    )
}

/// Traps in its start function, before `_start`.
pub fn traps_at_start() -> Vec<u8> {
    command("", r#"(func $boom unreachable) (start $boom) (func (export "_start"))"#)
}

/// A command component: `run` with this body, which leaves 0 (ok) or 1 (error).
pub fn command_component(body: &str) -> Vec<u8> {
    component(
        "command",
        &format!(
            r#"(module (memory (export "memory") 1)
            (func (export "wasi:cli/run@0.2.0#run") (result i32) {body}))"#
        ),
    )
}

/// The same for WASI 0.3.
pub fn command_component_p3(body: &str) -> Vec<u8> {
    component(
        "command-p3",
        &format!(
            r#"(module (memory (export "memory") 1)
            (func (export "wasi:cli/run@0.3.0#run") (result i32) {body}))"#
        ),
    )
}

/// A server component that answers `hello from wasm`, and does this before and after its answer.
pub fn server(before: &str, after: &str) -> Vec<u8> {
    server_of("server", "", "", before, after)
}

/// A server that makes so many fields with values of so many bytes each, and then answers `hello from wasm`.
pub fn makes_fields(fields: u32, bytes: u32) -> Vec<u8> {
    let append = r#"(import "wasi:http/types@0.2.0" "[method]fields.append"
        (func $append (param i32 i32 i32 i32 i32 i32)))"#;
    let before = format!(
        r#"(drop (memory.grow (i32.const {pages})))
        (memory.fill (i32.const 65536) (i32.const 97) (i32.const {bytes}))
        (local.set $r (call $fields))
        (local.set $b (i32.const {fields}))
        (loop $l
            (call $append (local.get $r) (i32.const 65536) (i32.const 1) (i32.const 65536) (i32.const {bytes}) (i32.const 0))
            (br_if $l (local.tee $b (i32.sub (local.get $b) (i32.const 1)))))"#,
        pages = (bytes >> 16) + 1
    );
    server_of("server", append, "", &before, "")
}

/// A server that reads all of its request's body, traps when it is not of so many bytes, and then answers
/// `hello from wasm`.
pub fn reads_its_request(bytes: u32) -> Vec<u8> {
    let imports = r#"
        (import "wasi:http/types@0.2.0" "[method]incoming-request.consume" (func $consume (param i32 i32)))
        (import "wasi:http/types@0.2.0" "[method]incoming-body.stream" (func $incoming (param i32 i32)))
        (import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-skip" (func $skip (param i32 i64 i32)))"#;
    let before = format!(
        r#"(call $consume (local.get $request) (i32.const 0))
        (call $incoming (i32.load (i32.const 4)) (i32.const 0))
        (local.set $r (i32.load (i32.const 4)))
        (block $end (loop $l
            (call $skip (local.get $r) (i64.const 65536) (i32.const 0))
            (br_if $end (i32.load8_u (i32.const 0)))
            (local.set $b (i32.add (local.get $b) (i32.load (i32.const 8))))
            (br $l)))
        (if (i32.ne (local.get $b) (i32.const {bytes})) (then unreachable))"#
    );
    server_of("server", imports, "", &before, "")
}

fn server_of(world: &str, imports: &str, rest: &str, before: &str, after: &str) -> Vec<u8> {
    component(
        world,
        &format!(
            r#"(module {imports}
            (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
            (import "wasi:http/types@0.2.0" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
            (import "wasi:http/types@0.2.0" "[method]outgoing-response.body" (func $body (param i32 i32)))
            (import "wasi:http/types@0.2.0" "[method]outgoing-body.write" (func $stream (param i32 i32)))
            (import "wasi:http/types@0.2.0" "[static]response-outparam.set"
                (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
            (import "wasi:http/types@0.2.0" "[static]outgoing-body.finish" (func $finish (param i32 i32 i32 i32)))
            (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
                (func $write (param i32 i32 i32 i32)))
            (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $drop_stream (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 64) "hello from wasm\n")
            {REALLOC} {rest}
            (func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
                (local $r i32) (local $b i32) (local $s i32)
                {before}
                (local.set $r (call $response (call $fields)))
                (call $body (local.get $r) (i32.const 0))
                (local.set $b (i32.load (i32.const 4)))
                (call $set (local.get $out) (i32.const 0) (local.get $r)
                    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
                (call $stream (local.get $b) (i32.const 0))
                (local.set $s (i32.load (i32.const 4)))
                (call $write (local.get $s) (i32.const 64) (i32.const 16) (i32.const 0))
                {after}
                (call $drop_stream (local.get $s))
                (call $finish (local.get $b) (i32.const 0) (i32.const 0) (i32.const 256))))"#
        ),
    )
}

/// Gives out memory from 8192 on and takes none back.
const REALLOC: &str = r#"(global $next (mut i32) (i32.const 8192))
    (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
        (global.get $next)
        (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8))))"#;

/// What a guest expects `skiff:pod/identity` to say: the functions that give a string, with that string, and the labels.
pub struct Identity<'a> {
    pub strings: &'a [(&'a str, &'a str)],
    pub labels: &'a [(&'a str, &'a str)],
}

impl Identity<'_> {
    fn imports(&self) -> String {
        let import = |name: &str| format!(r#"(import "skiff:pod/identity@0.1.0" "{name}" (func ${name} (param i32)))"#);
        self.strings.iter().map(|(name, _)| import(name)).collect::<String>() + &import("labels")
    }

    /// A function `$check_identity` that traps at the first answer that is not the expected one.
    fn check(&self) -> String {
        let (mut data, mut calls, mut at) = (String::new(), String::new(), 1024);
        let mut expect = |found: &str, text: &str| {
            data.push_str(&format!(r#"(data (i32.const {at}) "{text}")"#));
            let call = format!("(call $expect {found} (i32.const {at}) (i32.const {}))", text.len());
            at += text.len();
            call
        };
        for (name, text) in self.strings {
            calls += &format!("(call ${name} (i32.const 512)) {}", expect("(i32.const 512)", text));
        }
        calls += "(call $labels (i32.const 512))";
        calls += &format!(
            "(if (i32.ne (i32.load (i32.const 516)) (i32.const {})) (then unreachable))",
            self.labels.len()
        );
        for (index, (key, value)) in self.labels.iter().enumerate() {
            for (offset, text) in [(index * 16, key), (index * 16 + 8, value)] {
                calls += &expect(
                    &format!("(i32.add (i32.load (i32.const 512)) (i32.const {offset}))"),
                    text,
                );
            }
        }
        format!(
            r#"{data}
            (func $expect (param $found i32) (param $text i32) (param $length i32) (local $i i32)
                (if (i32.ne (i32.load offset=4 (local.get $found)) (local.get $length)) (then unreachable))
                (local.set $found (i32.load (local.get $found)))
                (block $done (loop $next
                    (br_if $done (i32.ge_u (local.get $i) (local.get $length)))
                    (if (i32.ne (i32.load8_u (i32.add (local.get $found) (local.get $i)))
                                (i32.load8_u (i32.add (local.get $text) (local.get $i)))) (then unreachable))
                    (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br $next))))
            (func $check_identity {calls})"#
        )
    }

    /// A command that succeeds when every answer is as expected; `track` is `0.2` or `0.3`.
    pub fn command(&self, track: &str) -> Vec<u8> {
        let world = if track == "0.3" {
            "command-identity-p3"
        } else {
            "command-identity"
        };
        let (imports, check) = (self.imports(), self.check());
        component(
            world,
            &format!(
                r#"(module {imports} (memory (export "memory") 1) {REALLOC} {check}
                (func (export "wasi:cli/run@{track}.0#run") (result i32) (call $check_identity) (i32.const 0)))"#
            ),
        )
    }

    /// A server that answers only when every answer is as expected.
    pub fn server(&self) -> Vec<u8> {
        server_of(
            "server-identity",
            &self.imports(),
            &self.check(),
            "(call $check_identity)",
            "",
        )
    }
}
