use ocelli_kernels::attention_row;
use ocelli_kernels::attention_row::attention_row_reference;

use crate::common::*;

#[test]
fn agrees_with_the_reference() {
    for (batch, tokens, heads, head, query) in
        [(1, 1, 1, 4, 0), (2, 3, 5, 32, 2), (1, 197, 6, 64, 0), (2, 785, 3, 64, 784), (1, 10, 2, 6, 3)]
    {
        // Large scores too: the sum must not overflow.
        for scale in [0.125, 50.0] {
            let qkv = random::<3>(1, [batch, tokens, 3 * heads * head], 1.0);
            let want = attention_row_reference(double(&qkv).inner(), heads, scale, query);
            let got = attention_row(qkv, heads, scale, query);
            close(&format!("{batch}×{tokens}, {heads} heads of {head}"), &got, &want, 1e-4);
            let sums = got.sum_dim(2);
            close("sums", &sums, &(sums.clone() * 0.0 + 1.0), 1e-5);
        }
    }
}
