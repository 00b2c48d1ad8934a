//! What a Deployment requests for its pods.

use std::path::Path;

use crate::manifest::{Manifest, ManifestError};

/// The CPU that a container requests, in thousandths of a core.
///
/// # Errors
/// When the file is not as it must be; the error names file and field.
pub fn cpu_request_millis(file: &Path, container: &str) -> Result<u32, ManifestError> {
    find(&Manifest::read(file)?, container)
}

fn find(manifest: &Manifest, name: &str) -> Result<u32, ManifestError> {
    let containers = manifest.root().at("spec.template.spec.containers");
    let found =
        containers.items()?.into_iter().find(|container| container.at("name").text().is_ok_and(|text| text == name));
    let cpu = found.ok_or_else(|| containers.wrong(format!("a container named {name}")))?.at("resources.requests.cpu");
    // A quantity of Kubernetes: `250m` or `2`.
    let text = cpu.text()?;
    let millis = match text.strip_suffix('m') {
        Some(millis) => millis.parse().ok(),
        None => text.parse().ok().and_then(|cores: u32| cores.checked_mul(1000)),
    };
    millis.filter(|millis| *millis > 0).ok_or_else(|| cpu.wrong("whole cores, or thousandths with an m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cpu: &str) -> Result<u32, String> {
        let text = format!(
            "spec: {{template: {{spec: {{containers: [{{name: x, resources: {{requests: {{cpu: {cpu}}}}}}}]}}}}}}"
        );
        let manifest = Manifest::parse(Path::new("x.yaml"), &text).unwrap();
        find(&manifest, "x").map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_is_cores_or_thousandths() {
        assert_eq!(request("250m"), Ok(250));
        assert_eq!(request("\"2\""), Ok(2000));
        let refused = |found| {
            Err(format!(
                "x.yaml: spec.template.spec.containers[0].resources.requests.cpu: expected whole cores, or thousandths \
                 with an m, found {found}"
            ))
        };
        assert_eq!(request("much"), refused("\"much\""));
        assert_eq!(request("0m"), refused("\"0m\""));
    }

    #[test]
    fn the_shipped_consumer_has_a_request() {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deployment/customer-management-api/deployment.yaml");
        let request = cpu_request_millis(&file, "customer-management-api");
        assert!(request.unwrap_or_else(|error| panic!("{error}")) > 0);
    }
}
