//! The table of settings for `--help`.

use super::Settings;

/// One row of the settings table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingRow {
    /// The environment variable.
    pub name: &'static str,
    /// The default as text; `unset` where there is none.
    pub default: String,
    /// What it does, with its unit.
    pub help: &'static str,
}

/// The table of all settings that `read` asks for.
pub fn settings_table<C>(read: impl FnOnce(&mut Settings) -> C) -> String {
    let mut settings = Settings::from_pairs::<String, String>([]);
    read(&mut settings);
    render_table(settings.rows())
}

/// The table of these settings.
#[must_use]
pub fn render_table(rows: &[SettingRow]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let lines = rows.iter().map(|SettingRow { name, default, help }| format!("  {name:width$}  {help} [{default}]\n"));
    format!("Settings, from the environment (NAME_FILE reads a secret from a file):\n\n{}", lines.collect::<String>())
}
