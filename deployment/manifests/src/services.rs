//! The two services, and what can be set there.

use shared::config::Settings;

/// Their names: of Deployments, pods, containers and images.
pub const SERVICES: [&str; 2] = ["customer-web-server", "customer-management-api"];

/// Reads all settings as a service does; mistakes are kept in `settings`.
pub fn read(service: &str, settings: &mut Settings) {
    if service == SERVICES[0] {
        drop(web_server::Config::read(settings));
    } else {
        drop(management_api::config::Config::read(settings));
    }
}

/// Those of the names that are no setting of a service. `NAME_FILE` is one where NAME is a secret.
pub fn unknown<'a>(service: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut settings = Settings::from_pairs::<String, String>([]);
    read(service, &mut settings);
    let is_known = |name: &str| {
        settings.rows().iter().any(|row| {
            let by_file = row.help.ends_with("(secret)") && name.strip_suffix("_FILE") == Some(row.name);
            row.name == name || by_file
        })
    };
    names.into_iter().filter(|name| !is_known(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_for_secrets_only_and_each_service_has_its_own_settings() {
        let names =
            ["KAFKA_TOPIC", "KAFKA_TOPIC_FILE", "KAFKA_SASL_PASSWORD_FILE", "KAFKA_SSL_CA_FILE", "DATABASE_URL"];
        assert_eq!(unknown(SERVICES[0], names), ["KAFKA_TOPIC_FILE", "DATABASE_URL"]);
        assert_eq!(unknown(SERVICES[1], names), ["KAFKA_TOPIC_FILE"]);
    }
}
