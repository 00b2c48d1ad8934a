//! A ScaledObject as it is shipped, read into what decides about replicas. A field that a cluster would obey and
//! that is not replayed here is refused.

use std::{path::Path, time::Duration};

use crate::{
    horizontal::{Behavior, PolicyKind, ScalingPolicy, ScalingRules, SelectPolicy},
    kafka_scaler::{Fallback, FallbackBehavior, KafkaTrigger, OffsetResetPolicy},
    manifest::{Field, Manifest, ManifestError},
};

/// KEDA's defaults (`apis/keda/v1alpha1/withtriggers_types.go`, `scaledobject_types.go`).
const POLLING_SECONDS: u64 = 30;
const MAX_REPLICAS: i32 = 100;

/// Kafka metadata that says how to reach the broker, or what to do about 0 replicas.
const INDIFFERENT: [&str; 6] = ["bootstrapServers", "version", "fullMetadata", "tls", "sasl", "activationLagThreshold"];
const OBEYED: [&str; 5] = ["consumerGroup", "topic", "lagThreshold", "offsetResetPolicy", "allowIdleConsumers"];

/// What scales one workload.
#[derive(Debug, Clone)]
pub struct ScaledObject {
    /// The workload.
    pub target: String,
    /// How often KEDA itself asks.
    pub polling_interval: Duration,
    /// What it says while it cannot.
    pub fallback: Option<Fallback>,
    /// Limits and pace of the HPA that it makes.
    pub behavior: Behavior,
    /// The lag.
    pub kafka: KafkaTrigger,
    /// The CPU that replicas should use, in percent of what they request.
    pub cpu_percent: Option<i32>,
}

impl ScaledObject {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is not as it must be; the error names file and field.
    pub fn read(file: &Path) -> Result<Self, ManifestError> {
        Self::from_manifest(&Manifest::read(file)?)
    }

    fn from_manifest(manifest: &Manifest) -> Result<Self, ManifestError> {
        let root = manifest.root();
        root.at("kind").word(&[("ScaledObject", ())])?;
        let spec = root.at("spec");
        spec.only(&[
            "scaleTargetRef",
            "pollingInterval",
            "cooldownPeriod",
            "minReplicaCount",
            "maxReplicaCount",
            "fallback",
            "advanced",
            "triggers",
        ])?;
        spec.at("advanced").only(&["horizontalPodAutoscalerConfig"])?;
        let (mut kafka, mut cpu_percent) = (None, None);
        for trigger in spec.at("triggers").items()? {
            match trigger.at("type").word(&[("kafka", true), ("cpu", false)])? {
                true if kafka.is_none() => kafka = Some(read_kafka(&trigger)?),
                false if cpu_percent.is_none() => cpu_percent = Some(read_cpu(&trigger)?),
                _ => return Err(trigger.at("type").wrong("each type once")),
            }
        }
        Ok(Self {
            target: spec.at("scaleTargetRef.name").text()?.to_owned(),
            polling_interval: Duration::from_secs(spec.at("pollingInterval").whole_or(POLLING_SECONDS)?),
            fallback: read_fallback(&spec.at("fallback"))?,
            behavior: read_scaled_behavior(&spec)?,
            kafka: kafka.ok_or_else(|| spec.at("triggers").wrong("a trigger of type kafka"))?,
            cpu_percent,
        })
    }

    /// The same with all times shorter by this factor.
    #[must_use]
    pub fn faster(mut self, speed: f64) -> Self {
        self.polling_interval = self.polling_interval.div_f64(speed);
        for rules in [&mut self.behavior.up, &mut self.behavior.down] {
            rules.window = rules.window.div_f64(speed);
            for policy in &mut rules.policies {
                policy.period = policy.period.div_f64(speed);
            }
        }
        self
    }
}

fn read_kafka(trigger: &Field<'_>) -> Result<KafkaTrigger, ManifestError> {
    trigger.only(&["type", "name", "metricType", "useCachedMetrics", "metadata", "authenticationRef"])?;
    average_value(&trigger.at("metricType"))?;
    let metadata = trigger.at("metadata");
    metadata.only(&[OBEYED.as_slice(), &INDIFFERENT].concat())?;
    let lag_threshold = metadata.at("lagThreshold").digits()?;
    if lag_threshold <= 0 {
        return Err(metadata.at("lagThreshold").wrong("more than 0"));
    }
    let policy = metadata.at("offsetResetPolicy");
    let policies = [("latest", OffsetResetPolicy::Latest), ("earliest", OffsetResetPolicy::Earliest)];
    let allow_idle = metadata.at("allowIdleConsumers");
    Ok(KafkaTrigger {
        group: metadata.at("consumerGroup").text()?.to_owned(),
        topic: metadata.at("topic").text()?.to_owned(),
        lag_threshold,
        offset_reset_policy: if policy.is_absent() { OffsetResetPolicy::Latest } else { policy.word(&policies)? },
        allow_idle_consumers: !allow_idle.is_absent() && allow_idle.word(&[("true", true), ("false", false)])?,
        use_cached_metrics: trigger.at("useCachedMetrics").flag()?,
    })
}

fn average_value(metric_type: &Field<'_>) -> Result<(), ManifestError> {
    if metric_type.is_absent() { Ok(()) } else { metric_type.word(&[("AverageValue", ())]) }
}

fn read_cpu(trigger: &Field<'_>) -> Result<i32, ManifestError> {
    trigger.at("metricType").word(&[("Utilization", ())])?;
    trigger.at("metadata").only(&["value"])?;
    trigger.at("metadata.value").digits()
}

fn read_fallback(fallback: &Field<'_>) -> Result<Option<Fallback>, ManifestError> {
    if fallback.is_absent() {
        return Ok(None);
    }
    let behaviors = [
        ("static", FallbackBehavior::Static),
        ("currentReplicas", FallbackBehavior::CurrentReplicas),
        ("currentReplicasIfHigher", FallbackBehavior::CurrentReplicasIfHigher),
        ("currentReplicasIfLower", FallbackBehavior::CurrentReplicasIfLower),
    ];
    let behavior = fallback.at("behavior");
    Ok(Some(Fallback {
        failure_threshold: fallback.at("failureThreshold").whole()?,
        replicas: fallback.at("replicas").whole()?,
        behavior: if behavior.is_absent() { FallbackBehavior::Static } else { behavior.word(&behaviors)? },
    }))
}

/// Limits and pace of the HPA that KEDA makes.
pub(crate) fn read_scaled_behavior(spec: &Field<'_>) -> Result<Behavior, ManifestError> {
    let limits = (spec.at("minReplicaCount"), spec.at("maxReplicaCount"));
    read_behavior(limits, &spec.at("advanced.horizontalPodAutoscalerConfig.behavior"))
}

/// Limits, the least and the most, and pace.
pub(crate) fn read_behavior(
    (min, max): (Field<'_>, Field<'_>),
    behavior: &Field<'_>,
) -> Result<Behavior, ManifestError> {
    if behavior.is_absent() {
        return Err(behavior.wrong("rules: without any, other code of the HPA decides"));
    }
    let (least, most) = (min.whole()?, max.whole_or(MAX_REPLICAS)?);
    if least < 1 {
        return Err(min.wrong("at least 1: from and to 0 KEDA scales by itself"));
    }
    if least > most {
        return Err(max.wrong("at least minReplicaCount"));
    }
    // `SetDefaults_HorizontalPodAutoscalerBehavior`; the down window is the controller's own default.
    let policy = |kind, value| ScalingPolicy { kind, value, period: Duration::from_secs(15) };
    let up = vec![policy(PolicyKind::Pods, 4), policy(PolicyKind::Percent, 100)];
    let down = vec![policy(PolicyKind::Percent, 100)];
    Ok(Behavior {
        min: least,
        max: most,
        up: read_rules(&behavior.at("scaleUp"), 0, up)?,
        down: read_rules(&behavior.at("scaleDown"), 300, down)?,
    })
}

fn read_rules(rules: &Field<'_>, window: u64, policies: Vec<ScalingPolicy>) -> Result<ScalingRules, ManifestError> {
    rules.only(&["stabilizationWindowSeconds", "selectPolicy", "policies"])?;
    let select = rules.at("selectPolicy");
    let words = [("Max", SelectPolicy::Max), ("Min", SelectPolicy::Min), ("Disabled", SelectPolicy::Disabled)];
    let read = |policy: &Field<'_>| {
        Ok(ScalingPolicy {
            kind: policy.at("type").word(&[("Pods", PolicyKind::Pods), ("Percent", PolicyKind::Percent)])?,
            value: policy.at("value").whole()?,
            period: Duration::from_secs(policy.at("periodSeconds").whole()?),
        })
    };
    let own = rules.at("policies").items()?.iter().map(read).collect::<Result<Vec<_>, ManifestError>>()?;
    Ok(ScalingRules {
        window: Duration::from_secs(rules.at("stabilizationWindowSeconds").whole_or(window)?),
        select: if select.is_absent() { SelectPolicy::Max } else { select.word(&words)? },
        policies: if own.is_empty() { policies } else { own },
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../customer-management-api.yaml")
    }

    /// The error that the shipped file gives with one text in it replaced.
    fn error_with(text: &str, other: &str) -> String {
        let shipped = fs::read_to_string(shipped()).unwrap();
        assert!(shipped.contains(text), "{text:?} is not in the file");
        let manifest = Manifest::parse(Path::new("keda/x.yaml"), &shipped.replacen(text, other, 1));
        manifest.and_then(|manifest| ScaledObject::from_manifest(&manifest)).unwrap_err().to_string()
    }

    #[test]
    fn the_shipped_file_is_read() {
        let object = ScaledObject::read(&shipped()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(object.target, "customer-management-api");
        assert_eq!((object.behavior.min, object.behavior.max), (1, 5));
        assert_eq!((object.kafka.topic.as_str(), object.kafka.lag_threshold), ("purchases", 1000));
        assert_eq!(object.kafka.group, "purchase-consumer-group");
        assert_eq!(object.kafka.offset_reset_policy, OffsetResetPolicy::Earliest);
        assert!(object.kafka.use_cached_metrics && !object.kafka.allow_idle_consumers);
        assert_eq!(object.cpu_percent, Some(70));
        assert_eq!(object.fallback.unwrap().behavior, FallbackBehavior::CurrentReplicasIfHigher);
        assert_eq!(object.behavior.up.window, Duration::from_mins(1));
        let one_a_minute = ScalingPolicy { kind: PolicyKind::Pods, value: 1, period: Duration::from_mins(1) };
        assert_eq!(object.behavior.down.window, Duration::from_mins(5));
        assert_eq!(object.behavior.down.policies, [one_a_minute]);
        let faster = object.faster(4.0);
        assert_eq!(faster.behavior.down.window, Duration::from_secs(75));
        assert_eq!(faster.behavior.down.policies[0].period, Duration::from_secs(15));
    }

    #[test]
    fn an_error_names_file_field_and_what_is_expected() {
        assert_eq!(
            error_with("lagThreshold: \"1000\"", "lagThreshold: 1000"),
            "keda/x.yaml: spec.triggers[0].metadata.lagThreshold: expected a whole number in quotes, found 1000"
        );
        assert_eq!(
            error_with("offsetResetPolicy: earliest", "offsetResetPolicy: oldest"),
            "keda/x.yaml: spec.triggers[0].metadata.offsetResetPolicy: expected latest or earliest, found \"oldest\""
        );
        assert_eq!(
            error_with("maxReplicaCount: 5", "maxReplicaCount: 0"),
            "keda/x.yaml: spec.maxReplicaCount: expected at least minReplicaCount, found 0"
        );
        assert_eq!(
            error_with("topic: purchases", ""),
            "keda/x.yaml: spec.triggers[0].metadata.topic: expected a text (a number or flag in quotes), found nothing"
        );
    }

    #[test]
    fn what_would_be_obeyed_elsewhere_only_is_refused() {
        let error = error_with("lagThreshold:", "lagTreshold:");
        assert!(error.starts_with("keda/x.yaml: spec.triggers[0].metadata.lagTreshold: expected only"), "{error}");
        let error = error_with("behavior: currentReplicasIfHigher", "behavior: scalingModifiers");
        assert!(error.contains("spec.fallback.behavior: expected static or"), "{error}");
        let error = error_with("kind: ScaledObject", "kind: ScaledJob");
        assert!(error.contains("kind: expected ScaledObject, found \"ScaledJob\""), "{error}");
        assert!(error_with("spec:", "spec: [").starts_with("keda/x.yaml: the file: expected one YAML object"));
    }
}
