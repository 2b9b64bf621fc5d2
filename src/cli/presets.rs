//! `ocelli presets`.

use anyhow::Context as _;
use clap::Args;
use ocelli::train::config::{PRESETS, preset, resolve};

/// List the recipes, or print one with every value resolved.
#[derive(Args)]
#[command(after_help = "Example:\n  ocelli presets vit-s16-300 > run.toml")]
pub struct PresetsArgs {
    /// Print this recipe as TOML
    name: Option<String>,
}

pub fn run(args: &PresetsArgs) -> anyhow::Result<()> {
    let Some(name) = &args.name else {
        let width = PRESETS.iter().map(|p| p.name.len()).max().unwrap_or(0);
        for p in PRESETS {
            println!("{:width$}  {}", p.name, p.about);
        }
        return Ok(());
    };
    let found = preset(name)?;
    let config = resolve(Some(name), None, &[])?;
    println!("# {}", found.about);
    for line in found.toml.lines().take_while(|l| l.starts_with('#')) {
        println!("{line}");
    }
    print!("{}", toml::to_string_pretty(&config).context("cannot print the preset")?);
    Ok(())
}
