//! What users do.

use serde_json::json;
use skiff_controllers::{DeleteOptions, ObjectKey, Target};

use crate::api::Kind;
use crate::machine::IMAGES;
use crate::world::{DEPLOYMENTS, NAMESPACE, NODES, SURGE, World};

/// Replicas that a user asks for at most: all deployments with their surge fit the nodes.
const REPLICAS_MAX: usize = 4;

impl World {
    pub fn deploy(&mut self, name: &str, replicas: usize, image: usize) {
        let tolerations = if name == "web" {
            json!([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}])
        } else {
            json!([])
        };
        let template = json!({
            "metadata": {"labels": {"app": name}},
            "spec": {
                "containers": [{
                    "name": "c", "image": format!("app:{image}"), "resources": {"requests": {"cpu": "500m"}},
                }],
                "restartPolicy": "Always", "terminationGracePeriodSeconds": 5, "tolerations": tolerations,
            },
        });
        let deployment = json!({
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": SURGE, "maxUnavailable": 0}},
                "revisionHistoryLimit": 2,
                "progressDeadlineSeconds": 600,
                "template": template,
            },
        });
        // Refused when it is there already.
        let _ = self.api.create(Kind::Deployment, deployment);
    }

    pub fn user(&mut self) -> String {
        let name = DEPLOYMENTS[self.rng.below(DEPLOYMENTS.len())];
        let key = ObjectKey::new(NAMESPACE, name);
        let node = format!("node-{}", self.rng.below(NODES));
        match self.rng.below(20) {
            0..5 => {
                let replicas = self.rng.below(REPLICAS_MAX + 1);
                self.api.edit(Kind::Deployment, &key, |deployment| {
                    deployment["spec"]["replicas"] = json!(replicas)
                });
                format!("user scales {name} to {replicas}")
            }
            5..10 => {
                let image = self.rng.below(IMAGES);
                self.set_image(name, image);
                format!("user gives {name} image {image}")
            }
            10..14 => {
                let pods: Vec<ObjectKey> = self.api.pods().map(|pod| ObjectKey::of(&pod.metadata)).collect();
                let pod = pods.get(self.rng.below(pods.len())).cloned();
                let grace_period_seconds = [None, Some(0), Some(30)][self.rng.below(3)];
                let options = DeleteOptions {
                    grace_period_seconds,
                    ..DeleteOptions::default()
                };
                match pod {
                    Some(pod) => self.delete(Kind::Pod, &pod, options),
                    None => "user finds no pod to delete".to_owned(),
                }
            }
            14 => {
                let propagation = [Some("Background"), Some("Foreground"), Some("Orphan")][self.rng.below(3)];
                self.delete(
                    Kind::Deployment,
                    &key,
                    DeleteOptions {
                        propagation,
                        ..DeleteOptions::default()
                    },
                )
            }
            15..17 => {
                let (replicas, image) = (self.rng.below(REPLICAS_MAX + 1), self.rng.below(IMAGES));
                self.deploy(name, replicas, image);
                format!("user applies {name} with {replicas} of image {image}")
            }
            17 => self.delete(Kind::Node, &ObjectKey::cluster(node), DeleteOptions::default()),
            _ => {
                let cordon = self.rng.chance(50);
                self.cordon(&node, cordon);
                format!("user cordons {node}: {cordon}")
            }
        }
    }

    pub fn set_image(&mut self, name: &str, image: usize) {
        self.api
            .edit(Kind::Deployment, &ObjectKey::new(NAMESPACE, name), |deployment| {
                deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(format!("app:{image}"));
            });
    }

    pub fn cordon(&mut self, node: &str, cordon: bool) {
        self.api.edit(Kind::Node, &ObjectKey::cluster(node), |node| {
            node["spec"]["unschedulable"] = json!(cordon);
        });
    }

    fn delete(&mut self, kind: Kind, key: &ObjectKey, options: DeleteOptions) -> String {
        let target = Target {
            resource: kind.resource(),
            key: key.clone(),
            uid: String::new(),
            resource_version: None,
        };
        let done = self.api.delete(&target, options);
        format!("user deletes {kind:?} {key} {options:?}: {done:?}")
    }
}
