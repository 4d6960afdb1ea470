//! hello-http: a `wasi:http` component that answers every request with a greeting.
//!
//! `GET /` says hello; `GET /env` lists the environment; `GET /work?n=N` counts to N first (to burn CPU);
//! `GET /grow?mib=N` takes N MiB of memory (to meet the memory limit); `GET /trap` traps; POST echoes the body.

use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

/// Bytes of an echoed body read at a time.
const CHUNK: u64 = 16 * 1024;

struct HelloHttp;

wasip2::http::proxy::export!(HelloHttp);

impl wasip2::exports::http::incoming_handler::Guest for HelloHttp {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        let (path, query) = target.split_once('?').unwrap_or((target.as_str(), ""));
        match (request.method(), path) {
            (Method::Post, _) => echo(request, out),
            (_, "/") => reply(out, 200, greeting().as_bytes()),
            (_, "/env") => reply(out, 200, environment().as_bytes()),
            (_, "/work") => {
                let count = number(query, "n").unwrap_or(1_000_000);
                reply(out, 200, format!("{}\n", work(count)).as_bytes());
            }
            (_, "/grow") => {
                let mebibytes = number(query, "mib").unwrap_or(1) as usize;
                let memory = vec![1_u8; mebibytes << 20];
                let sum: u64 = memory.iter().step_by(4096).map(|&b| u64::from(b)).sum();
                reply(out, 200, format!("{sum} pages touched\n").as_bytes());
            }
            (_, "/trap") => core::arch::wasm32::unreachable(),
            _ => reply(out, 404, b"not found\n"),
        }
    }
}

fn greeting() -> String {
    let name = wasip2::cli::environment::get_environment()
        .into_iter()
        .find_map(|(key, value)| (key == "GREETING").then_some(value));
    format!("{}\n", name.as_deref().unwrap_or("Hello from WebAssembly!"))
}

fn environment() -> String {
    let mut lines: Vec<String> =
        wasip2::cli::environment::get_environment().into_iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    lines.sort();
    lines.concat()
}

fn number(query: &str, key: &str) -> Option<u64> {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

/// A xorshift generator run `count` times: work that no compiler can leave out.
fn work(count: u64) -> u64 {
    let mut x = 88_172_645_463_325_252_u64;
    for _ in 0..count {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    x
}

fn reply(out: ResponseOutparam, status: u16, body: &[u8]) {
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain; charset=utf-8");
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let Ok(outgoing) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    {
        let Ok(stream) = outgoing.write() else { return };
        for chunk in body.chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                return;
            }
        }
    }
    let _ = OutgoingBody::finish(outgoing, None);
}

/// Sends the request's body back as it arrives.
fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let Ok(outgoing) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    if let Ok(incoming) = request.consume() {
        if let (Ok(input), Ok(output)) = (incoming.stream(), outgoing.write()) {
            while let Ok(chunk) = input.blocking_read(CHUNK) {
                for part in chunk.chunks(4096) {
                    if output.blocking_write_and_flush(part).is_err() {
                        return;
                    }
                }
            }
        }
    }
    let _ = OutgoingBody::finish(outgoing, None);
}
