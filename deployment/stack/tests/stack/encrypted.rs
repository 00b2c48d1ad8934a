//! Services built with the feature `tls`, towards a Kafka and a PostgreSQL that want to be sure who they talk to.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use shared::testing::eventually;
use stack::kafka::KafkaPlan;
use stack::postgres::{DATABASE, PostgresPlan, UNPRIVILEGED_ID};
use stack::process::{Lifetime, is_root};
use stack::{KafkaCluster, Load, LoadPlan, Postgres, RunFolder, ports::free_port};

use crate::deployment::{Deployment, Plan, assert_none_given_up};
use crate::infra::infra_alone;

const USER: &str = "pipeline";
const PASSWORD: &str = "correct horse, battery staple";

/// Kafka with a listener for SASL over TLS and one for client certificates, and PostgreSQL with TLS.
struct SecureStack {
    kafka: KafkaCluster,
    postgres: Postgres,
    sasl_port: u16,
    certificate_port: u16,
    authority: Authority,
    folder: RunFolder,
}

/// A certificate authority of the test's own, and a folder of what it has issued.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: PathBuf) -> Self {
        let mut parameters = CertificateParams::new([]).expect("parameters");
        parameters.distinguished_name.push(DnType::CommonName, "the test's authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key")).expect("signed");
        fs::write(folder.join("ca.pem"), issuer.pem()).expect("written");
        Self { issuer, folder }
    }

    /// Issues a certificate for this machine as `NAME.pem` and `NAME.key`, and both in `NAME.both.pem`.
    fn issue(&self, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).expect("names").signed_by(&key, &self.issuer).expect("signed");
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        for (suffix, text) in [("pem", &certificate), ("key", &key), ("both.pem", &format!("{key}{certificate}"))] {
            let path = self.folder.join(format!("{name}.{suffix}"));
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed");
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}

impl SecureStack {
    async fn start() -> Self {
        let folder = RunFolder::new("encrypted").expect("a folder");
        let authority = Authority::new(folder.subfolder("certificates").expect("a folder"));
        for name in ["kafka", "postgres", "service"] {
            authority.issue(name);
        }
        let [sasl_port, certificate_port] = [(); 2].map(|()| free_port().expect("a port"));
        let (kafka, postgres) = tokio::join!(
            start_kafka(folder.path(), &authority, sasl_port, certificate_port),
            start_postgres(folder.path(), &authority)
        );
        Self { kafka, postgres, sasl_port, certificate_port, authority, folder }
    }

    /// One replica of each service that trusts only `authority`.
    fn plan(&self, name: &str) -> Plan {
        let ca = self.authority.path("ca.pem");
        Plan::new(name).replicas(1, 1).with("KAFKA_SSL_CA_FILE", ca)
    }

    fn prepare(&self, plan: Plan, kafka_port: u16, ca: &str) -> Deployment {
        let url = format!("{}?sslmode=verify-full&sslrootcert={ca}", self.postgres.database_url());
        let mut stack = plan.prepare_blind(&format!("127.0.0.1:{kafka_port}"), &url, self.folder.path());
        DATABASE.clone_into(&mut stack.database);
        // What the test itself reads, it reads by the listener of the brokers.
        stack.kafka.bootstrap_servers = self.kafka.bootstrap_servers();
        stack
    }

    fn sasl(&self, mechanism: &str, password: &str) -> Plan {
        self.plan(&mechanism.to_lowercase().replace('-', ""))
            .with("KAFKA_SECURITY_PROTOCOL", "sasl_ssl")
            .with("KAFKA_SASL_MECHANISM", mechanism)
            .with("KAFKA_SASL_USERNAME", USER)
            .with("KAFKA_SASL_PASSWORD", password)
    }

    async fn assert_a_purchase_passes(&self, mut stack: Deployment) {
        let client = self.postgres.client().await.expect("PostgreSQL answers");
        client
            .batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            .await
            .expect("a schema with nothing in it");
        stack.start().await;
        let encrypted = "SELECT bool_and(ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                         WHERE backend_type = 'client backend' AND application_name <> 'test'";
        client.batch_execute("SET application_name = 'test'").await.expect("set");
        let row = client.query_one(encrypted, &[]).await.expect("statistics");
        assert!(row.get::<_, bool>(0) && row.get::<_, i64>(1) > 0, "management-api's sessions are encrypted");
        let report = Load::run(LoadPlan { purchases_max: Some(100), ..stack.load(500.0) }).await;
        assert_none_given_up(&report);
        stack.assert_exact(&self.postgres, &report.ledger).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn purchases_pass_with_every_way_to_prove_who_we_are() {
    let _idle = infra_alone().await;
    let secure = SecureStack::start().await;
    let ca = secure.authority.path("ca.pem");
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let stack = secure.prepare(secure.sasl(mechanism, PASSWORD), secure.sasl_port, &ca);
        secure.assert_a_purchase_passes(stack).await;
    }
    let certificate = secure
        .plan("certificate")
        .with("KAFKA_SECURITY_PROTOCOL", "ssl")
        .with("KAFKA_SSL_CERTIFICATE_FILE", secure.authority.path("service.pem"))
        .with("KAFKA_SSL_KEY_FILE", secure.authority.path("service.key"));
    let stack = secure.prepare(certificate, secure.certificate_port, &ca);
    secure.assert_a_purchase_passes(stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_verified_is_not_talked_to() {
    let _idle = infra_alone().await;
    let secure = SecureStack::start().await;
    let strangers = Authority::new(secure.folder.subfolder("strangers").expect("a folder"));
    let (ca, other_ca) = (secure.authority.path("ca.pem"), strangers.path("ca.pem"));
    let wrong_password = secure.sasl("SCRAM-SHA-256", "wrong");
    let wrong_broker = secure.sasl("SCRAM-SHA-256", PASSWORD).with("KAFKA_SSL_CA_FILE", &other_ca);
    for (plan, database_ca, failing) in [
        (wrong_password, &ca, ["kafka", "consumer"]),
        (wrong_broker, &ca, ["kafka", "consumer"]),
        (secure.sasl("SCRAM-SHA-256", PASSWORD), &other_ca, ["", "database"]),
    ] {
        let mut stack = secure.prepare(plan, secure.sasl_port, database_ca);
        for (service, check) in stack.web.iter_mut().chain(&mut stack.api).zip(failing) {
            service.start_again().expect("it starts");
            service.wait_live(crate::deployment::READY).await.unwrap_or_else(|error| panic!("{error}"));
            if check.is_empty() {
                continue;
            }
            // Long enough for a connection that would be accepted: the other test is ready within two seconds.
            let until = tokio::time::Instant::now() + Duration::from_secs(6);
            eventually("the time is over", async || {
                let answer = service.get("/readyz").await.expect("it answers");
                let report: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
                assert_eq!((answer.status.as_u16(), &report["checks"][check]["status"]), (503, &"failing".into()));
                (tokio::time::Instant::now() > until).then_some(())
            })
            .await;
            let log = fs::read_to_string(service.log()).expect("a log");
            assert!(
                !log.contains(PASSWORD) && log.contains("fail"),
                "the log says what is wrong, without secrets: {log}"
            );
        }
    }
}

async fn start_kafka(folder: &Path, authority: &Authority, sasl_port: u16, certificate_port: u16) -> KafkaCluster {
    let mut plan = KafkaPlan::on_free_ports(1).expect("free ports");
    let own = plan.ports[0];
    let listeners = format!(
        "PLAINTEXT://127.0.0.1:{},SASL_SSL://127.0.0.1:{sasl_port},SSL://127.0.0.1:{certificate_port}",
        own.client
    );
    let plain_login =
        format!("org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";");
    let scram_login = "org.apache.kafka.common.security.scram.ScramLoginModule required;".to_owned();
    let settings = [
        ("listeners", format!("{listeners},CONTROLLER://127.0.0.1:{}", own.controller)),
        ("advertised.listeners", listeners),
        (
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL".to_owned(),
        ),
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".to_owned()),
        ("listener.name.sasl_ssl.plain.sasl.jaas.config", plain_login),
        ("listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config", scram_login.clone()),
        ("listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config", scram_login),
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.location", authority.path("kafka.both.pem")),
        ("ssl.truststore.type", "PEM".to_owned()),
        ("ssl.truststore.location", authority.path("ca.pem")),
        ("listener.name.ssl.ssl.client.auth", "required".to_owned()),
    ];
    plan.extra_settings.extend(settings.map(|(name, value)| (name.to_owned(), value)));
    let folder = folder.join("kafka");
    let mut cluster = KafkaCluster::prepare(&folder, plan).await.expect("Kafka is prepared");
    cluster.start_all().await.expect("Kafka starts");
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let password = format!("{mechanism}=[password={PASSWORD}]");
        let arguments = ["--alter", "--add-config", &password, "--entity-type", "users", "--entity-name", USER];
        cluster.run_tool("kafka.admin.ConfigCommand", &arguments).await.expect("a user");
    }
    cluster
}

async fn start_postgres(folder: &Path, authority: &Authority) -> Postgres {
    if is_root() {
        for name in ["postgres.pem", "postgres.key"] {
            chown(authority.path(name), Some(UNPRIVILEGED_ID), Some(UNPRIVILEGED_ID))
                .expect("owned by PostgreSQL's user");
        }
    }
    let extra_settings = vec![
        "ssl=on".to_owned(),
        format!("ssl_cert_file={}", authority.path("postgres.pem")),
        format!("ssl_key_file={}", authority.path("postgres.key")),
    ];
    let plan = PostgresPlan { port: free_port().expect("a port"), extra_settings, lifetime: Lifetime::WithParent };
    let mut postgres = Postgres::prepare(&folder.join("postgres"), plan).await.expect("PostgreSQL is prepared");
    postgres.start_again().await.expect("PostgreSQL starts");
    postgres
}
