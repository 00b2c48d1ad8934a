//! Paths of the autoscaling guide stay valid, for `kubectl apply -f`.

use manifests::yaml;

#[test]
fn the_guide_s_paths_hold_what_the_components_apply() {
    for service in ["customer-web-server", "customer-management-api"] {
        for (file, component) in [("hpa", "autoscaling-cpu"), ("hpa-http", "autoscaling-http")] {
            let by_path = yaml::read(&format!("deployment/{service}/{file}.yaml"));
            assert_eq!(by_path, yaml::read(&format!("deployment/components/{component}/{service}.yaml")));
            assert_eq!(by_path["kind"], "HorizontalPodAutoscaler");
        }
        for file in ["deployment", "service", "serviceaccount", "configmap", "pdb", "networkpolicy"] {
            let object = yaml::read(&format!("deployment/{service}/{file}.yaml"));
            assert_eq!(object["metadata"]["name"], service, "{file}");
            assert_eq!(object["metadata"]["namespace"], "purchase-system", "{file}");
        }
    }
}
