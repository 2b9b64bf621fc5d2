//! `ocelli presets`.

use clap::Args;
use ocelli::train::RunConfig;
use ocelli::train::config::{MethodChoice, annotated, preset, presets, resolve};

/// List the recipes, or print one with every value, what it means and where it comes from.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli presets\n  ocelli presets default\n  ocelli presets vit-s16-300 > run.toml"
)]
pub struct PresetsArgs {
    /// Print this recipe as TOML; the name of a method prints its defaults, `default` those of the first
    name: Option<String>,
}

pub fn run(args: &PresetsArgs) -> anyhow::Result<()> {
    let Some(name) = &args.name else {
        let width = presets().map(|(_, p)| p.name.len()).max().unwrap_or(0);
        for (_, p) in presets() {
            println!("{:width$}  {}", p.name, p.about);
        }
        return Ok(());
    };
    if name == "default" {
        println!("# The defaults: the reference's, where it has any.");
        print!("{}", annotated(&RunConfig::default())?);
        return Ok(());
    }
    if let Ok(method) = name.parse::<MethodChoice>() {
        let recipe = method.recipe();
        println!("# {}: {}\n# published for {}", recipe.title, recipe.paper, recipe.published_for);
        print!("{}", annotated(&RunConfig::of(method)?)?);
        return Ok(());
    }
    let (_, found) = preset(name)?;
    println!("# {}", found.about);
    for line in found.toml.lines().take_while(|l| l.starts_with('#')) {
        println!("{line}");
    }
    print!("{}", annotated(&resolve(Some(name), None, &[])?)?);
    Ok(())
}
