//! What the server's status adds to a memory that is older.

use k8s_openapi::api::core::v1::Pod;

use crate::memory::PodMemory;

fn pod(status: &str) -> Pod {
    serde_saphyr::from_str(&format!(
        "metadata: {{uid: u}}\nspec: {{containers: [{{name: web}}]}}\nstatus: {status}"
    ))
    .unwrap()
}

fn web(restarts: u32) -> Pod {
    pod(&format!(
        "{{phase: Running, containerStatuses: [{{name: web, image: i, imageID: d, ready: true, restartCount: {restarts}, \
         containerID: 'wasm://{restarts}', state: {{running: {{}}}}}}]}}"
    ))
}

#[test]
fn restart_counts_never_go_back() {
    let mut memory = PodMemory::from_status(&web(1));
    memory.catch_up(&web(3));
    assert_eq!(memory.container("web").unwrap().next_attempt(), 4);
    memory.catch_up(&web(2));
    assert_eq!(memory.container("web").unwrap().next_attempt(), 4);
}

#[test]
fn a_pod_that_others_ended_has_ended() {
    let mut memory = PodMemory::from_status(&web(0));
    memory.catch_up(&pod("{phase: Failed}"));
    assert_eq!(memory.terminal_phase.as_deref(), Some("Failed"));
    memory.catch_up(&web(0));
    assert_eq!(memory.terminal_phase.as_deref(), Some("Failed"));
    assert!(
        memory.container("web").unwrap().is_alive(),
        "it is stopped, not forgotten"
    );
}
