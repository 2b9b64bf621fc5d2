{# What both families of InfoNCE share: products of queries with the queue's entries that are used up where they arise.

   Settings: ending "stats" (largest logit and sum of exponentials of every row over one split of the queue) | "weights"
   (the softmax of a chunk of the queue, from the log-sum-exps). #}
// [rows, dim]
@group(0) @binding(0) var<storage, read_write> query: array<f32>;
// [dim, len]
@group(0) @binding(1) var<storage, read_write> queue: array<f32>;
{% if ending == "stats" -%}
// [splits, 2, rows]: the largest logits, then the sums.
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;
{% else -%}
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
// [rows, width]
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;
{% endif -%}
// rows, dim, len; bits of 1/τ; where the chunk begins; entries of a split or of the chunk.
@group(0) @binding({{ 3 if ending == "stats" else 4 }}) var<storage, read_write> sizes: array<u32, 8>;
