// erf by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7); `decay` is exp(−x²).
fn erf4(x: vec4<f32>, decay: vec4<f32>) -> vec4<f32> {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let p = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(x) * (1.0 - p * decay);
}

// Beyond this the normal distribution's tail is 0 or 1 in f32, and squares stay finite.
fn inner4(x: vec4<f32>) -> vec4<f32> {
    return clamp(x, vec4<f32>(-12.0), vec4<f32>(12.0)) * 0.70710678;
}

fn gelu(x: vec4<f32>) -> vec4<f32> {
    let s = inner4(x);
    return 0.5 * x * (1.0 + erf4(s, exp(-s * s)));
}

// Φ(x) + x·φ(x)
fn gelu_slope(x: vec4<f32>) -> vec4<f32> {
    let s = inner4(x);
    let decay = exp(-s * s);
    return 0.5 * (1.0 + erf4(s, decay)) + clamp(x, vec4<f32>(-12.0), vec4<f32>(12.0)) * (0.39894228 * decay);
}
