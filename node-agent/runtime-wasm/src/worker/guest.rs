//! What a guest finds when it runs: the data of its store, with every bound set, and the linkers that give it WASI.

use std::sync::Arc;

use skiff_runtime::ContainerSpec;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::sockets;
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::bounds::Bounds;
use super::counts::{Counts, Taken};
use super::hits::Hits;
use super::instances::{Instances, Live};
use super::log_stream::LogStream;
use super::logs::{ContainerLog, Stream};
use super::memory::{ContainerMemory, InstanceMemory};
use super::mounts::{self, GuestMounts, Mounts};
use super::net::{self, ContainerNet};
use super::outgoing::Outgoing;
use super::services::{self, Services, keyvalue};
use super::sockets::{HasPodSockets, Lookups, PodSockets};
use super::stdin::Stdin;
use super::stream::output::SessionOutput;
use super::traffic::Traffic;
use crate::limits;

/// Store data of a component.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    outgoing: Outgoing,
    memory: InstanceMemory,
    net: Arc<ContainerNet>,
    pub(super) taken: Arc<Taken>,
    lookups: Lookups,
    services: Arc<Services>,
    mounts: Arc<Mounts>,
}

/// Store data of a core module of WASI preview 1.
pub(crate) struct CoreGuest {
    pub(super) wasi: WasiP1Ctx,
    memory: InstanceMemory,
    pub(super) taken: Arc<Taken>,
    /// Files and directories that it opened itself: what a component's table bounds, a core module has not.
    pub(super) open_files: usize,
    pub(super) hits: Arc<Hits>,
}

impl CoreGuest {
    /// One fewer is open, if the call that closed it succeeded.
    pub(super) fn closed(&mut self, errno: i32) {
        if errno == 0 {
            self.open_files = self.open_files.saturating_sub(1);
            self.taken.file_closed();
        }
    }
}

/// What all instances of one container have in common.
pub(crate) struct Surroundings {
    pub(crate) spec: ContainerSpec,
    pub(crate) log: Arc<ContainerLog>,
    pub(crate) memory: Arc<ContainerMemory>,
    pub(crate) net: Arc<ContainerNet>,
    pub(crate) bounds: Bounds,
    pub(crate) counts: Arc<Counts>,
    pub(crate) hits: Arc<Hits>,
    pub(crate) services: Arc<Services>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) mounts: Arc<Mounts>,
    pub(crate) instances: Arc<Instances>,
    /// Where the output goes in place of the log: for a debug component, the client.
    pub(crate) session: Option<SessionOutput>,
}

impl Surroundings {
    fn wasi(&self, stdin: Option<Stdin>, taken: &Arc<Taken>) -> WasiCtxBuilder {
        let mut wasi = WasiCtxBuilder::new();
        match self.spec.args.is_empty() {
            true => wasi.arg(self.module_name()),
            false => wasi.args(&self.spec.args),
        };
        match &self.session {
            None => wasi
                .stdout(LogStream::new(self.log.clone(), Stream::Stdout))
                .stderr(LogStream::new(self.log.clone(), Stream::Stderr)),
            Some(session) => wasi.stdout(session.stdout()).stderr(session.stderr()),
        };
        wasi.envs(&self.spec.env)
            .max_random_size(limits::RANDOM_BYTES_MAX)
            .allow_tcp(true)
            .allow_udp(true)
            .allow_ip_name_lookup(true);
        if let Some(stdin) = stdin {
            wasi.stdin(stdin);
        }
        net::restrict(&mut wasi, &self.net, taken);
        wasi
    }

    /// `skiff.local/team/hello:1` → `hello`: the guest's `argv[0]` when the pod gives none.
    fn module_name(&self) -> &str {
        let path = self.spec.image.reference.split('@').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        last.split(':').next().filter(|name| !name.is_empty()).unwrap_or("main")
    }

    /// A server's instance says later what it does.
    fn instance_memory(&self, is_command: bool) -> InstanceMemory {
        let live = self.instances.add();
        if is_command {
            live.does(self.spec.args.join(" ").into());
        }
        InstanceMemory::new(self.memory.clone(), live)
    }

    /// A store for one instance of a component.
    pub(crate) fn store(&self, engine: &Engine, stdin: Option<Stdin>) -> wasmtime::Result<Store<Guest>> {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits::FIELDS_BYTES_MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits::RESOURCES_MAX);
        let taken = Arc::new(Taken::new(self.counts.clone()));
        let is_command = stdin.is_some();
        let guest = Guest {
            wasi: self.wasi(stdin, &taken).build(),
            http,
            table,
            outgoing: Outgoing::new(self.net.clone(), self.counts.clone(), self.traffic.clone()),
            memory: self.instance_memory(is_command),
            net: self.net.clone(),
            taken,
            lookups: Lookups::new(),
            services: self.services.clone(),
            mounts: self.mounts.clone(),
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.memory);
        bound(&mut store);
        store.set_max_component_handles(self.bounds.handles);
        Ok(store)
    }

    /// A store for a core module.
    pub(crate) fn core_store(&self, engine: &Engine, stdin: Stdin) -> wasmtime::Result<Store<CoreGuest>> {
        let taken = Arc::new(Taken::new(self.counts.clone()));
        let mut wasi = self.wasi(Some(stdin), &taken);
        for mount in &self.spec.mounts {
            wasi.preopened_dir(&mount.host_path, &mount.container_path, mounts::permissions(mount))?;
        }
        let guest = CoreGuest {
            wasi: wasi.build_p1(),
            memory: self.instance_memory(true),
            taken,
            open_files: 0,
            hits: self.hits.clone(),
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.memory);
        bound(&mut store);
        Ok(store)
    }
}

/// Interrupts at every tick: the guest's future yields, is charged, and goes on when its turn comes.
fn bound<T: Inspected + 'static>(store: &mut Store<T>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        store.data().live().interrupted(&store);
        super::cpu::interrupted();
        // The kernel's turn as well: it looks for threads that have waited longer than their share every 4 ms only.
        std::thread::yield_now();
        Ok(UpdateDeadline::Yield(1))
    });
    store.set_hostcall_fuel(limits::HOSTCALL_FUEL);
}

/// Store data that is on the list of live instances.
trait Inspected {
    fn live(&self) -> &Live;
}

impl Inspected for Guest {
    fn live(&self) -> &Live {
        &self.memory.live
    }
}

impl Inspected for CoreGuest {
    fn live(&self) -> &Live {
        &self.memory.live
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Guest {
    pub(super) fn services(&mut self) -> &Services {
        &self.services
    }

    /// Says which request the instance answers, to who looks at it.
    pub(super) fn answers(&self, request: Arc<str>) {
        self.memory.live.does(request);
    }

    pub(super) fn mounts(&mut self) -> GuestMounts<'_> {
        GuestMounts {
            mounts: &self.mounts,
            table: &mut self.table,
        }
    }

    pub(super) fn buckets(&mut self) -> keyvalue::View<'_> {
        keyvalue::View {
            access: keyvalue::Access {
                buckets: &self.services.buckets,
                quota: self.services.quota,
            },
            table: &mut self.table,
        }
    }

    pub(super) fn pod_sockets(&mut self) -> PodSockets<'_> {
        PodSockets {
            view: WasiSocketsCtxView {
                ctx: self.wasi.sockets(),
                table: &mut self.table,
            },
            net: &self.net,
            taken: &self.taken,
            lookups: &mut self.lookups,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outgoing,
        }
    }
}

pub(crate) type Linker = wasmtime::component::Linker<Guest>;
pub(crate) type CoreLinker = wasmtime::Linker<CoreGuest>;

/// Everything of `capabilities.rs` for components.
pub(crate) fn linker(engine: &Engine, p3: bool) -> wasmtime::Result<Linker> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    if p3 {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    }
    // In place of the library's: the pod's own address, its egress list, its counts.
    linker.allow_shadowing(true);
    sockets::ip_name_lookup::add_to_linker::<Guest, HasPodSockets>(&mut linker, Guest::pod_sockets)?;
    sockets::tcp_create_socket::add_to_linker::<Guest, HasPodSockets>(&mut linker, Guest::pod_sockets)?;
    sockets::udp_create_socket::add_to_linker::<Guest, HasPodSockets>(&mut linker, Guest::pod_sockets)?;
    if p3 {
        super::sockets_p3::add_to_linker(&mut linker)?;
    }
    super::open_files::count(&mut linker, p3)?;
    sockets::tcp::add_to_linker::<Guest, HasPodSockets>(&mut linker, Guest::pod_sockets)?;
    sockets::udp::add_to_linker::<Guest, HasPodSockets>(&mut linker, Guest::pod_sockets)?;
    mounts::add_to_linker(&mut linker, p3)?;
    linker.allow_shadowing(false);
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    services::add_to_linker(&mut linker)?;
    if p3 {
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    Ok(linker)
}

/// WASI preview 1 for core modules.
pub(crate) fn core_linker(engine: &Engine) -> wasmtime::Result<CoreLinker> {
    let mut linker = CoreLinker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |guest| &mut guest.wasi)?;
    super::core_files::count(&mut linker)?;
    Ok(linker)
}
