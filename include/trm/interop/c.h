/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRM_INTEROP_C_H
#define TRM_INTEROP_C_H

/* Trust-region-masked policy-gradient losses for C99 and everything that calls C.
 *
 * Link the CMake target trm::c (libtrm_c), or compile trm/interop/c.cpp as C++20 into your program with your own flags:
 * its -march decides the vector unit.
 *
 * Functions that can fail return a trm_code, TRM_OK (0) on success, or NULL where they make an object; a trm_error, if one
 * is given, then has the sentence and the place. What a failed call was to write is as it was, except where it says
 * otherwise. No exception leaves a function. There is no global state: calls are thread-safe as long as no two threads use
 * one object of which at least one call takes a pointer to non-const. A trm_loss is never changed.
 *
 * Structs begin with their size, as the caller knows it: make them with trm_..._init(). The library refuses a struct that is
 * smaller than the first version of that struct, and one that is larger than it knows if what it does not know is set.
 * Bytes that a caller has room for and the library does not know are set to 0. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(TRM_C_API)
#if defined(__GNUC__)
#define TRM_C_API __attribute__((visibility("default")))
#else
#define TRM_C_API
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the library as MAJOR * 10000 + MINOR * 100 + PATCH. */
TRM_C_API int trm_version(void);

/* --- errors ------------------------------------------------------------------------------------------------------------- */

enum trm_code {
    TRM_OK = 0,
    TRM_SIZE_MISMATCH = 1,      /* a stream or statistic has the wrong number of elements */
    TRM_MISSING_STREAM = 2,     /* the loss reads a stream that the batch does not have */
    TRM_DECREASING_OFFSETS = 3, /* cu_seqlens does not start at 0, decreases, or ends past the tokens */
    TRM_BAD_LAYOUT = 4,
    TRM_BAD_THRESHOLD = 5,
    TRM_BAD_DENOMINATOR = 6,
    TRM_NONFINITE_INPUT = 7, /* strict losses only */
    TRM_POSITIVE_LOGP = 8,   /* strict losses only */
    TRM_OUT_OF_MEMORY = 9,
    TRM_BAD_SPEC = 10, /* text, JSON or preset name does not describe a loss */
    TRM_UNSUPPORTED = 11,
    TRM_BAD_ARGUMENT = 100, /* null or misaligned pointer, unknown enumerator, size of a struct, slice out of range */
    TRM_INTERNAL = 101      /* an executor threw a C++ exception; outputs are unspecified */
};

typedef struct trm_error {
    size_t size;
    int32_t code;     /* trm_code */
    int32_t reserved;
    int64_t sequence; /* first offender, -1 where unknown; token: offset inside the sequence, or the row of logits */
    int64_t token;
    int64_t expected; /* for sizes, the numbers that disagree; else -1 */
    int64_t actual;
    int64_t position; /* text: byte of the mistake from 0; line and column from 1; -1 where there is no text */
    int64_t line;
    int64_t column;
    char message[512];   /* a sentence, cut if it is longer; empty on success */
    char suggestion[64]; /* text: the known word nearest to an unknown one, or empty */
} trm_error;

/* --- losses ------------------------------------------------------------------------------------------------------------- */

typedef struct trm_loss trm_loss;

/* The text form is in trm/loss/README.md: "mask: seq_max_k2 <= 0.05; surrogate: ppo_clip(eps_high=0.28)". */
TRM_C_API trm_loss* trm_loss_from_text(const char* text, trm_error* error);
/* Its JSON form. The message of a failure starts with the JSON pointer of the place; position is known for malformed
 * JSON only. TRM_UNSUPPORTED where the library was built without nlohmann/json. */
TRM_C_API trm_loss* trm_loss_from_json(const char* json, trm_error* error);
/* A preset by name, "trl_dapo", or with parameters by place or name, "trm_max(0.05)", "trl_dapo(eps_high=0.28)"; they are
 * those of the function of that name in trm/loss/presets.hpp, and so are the defaults. */
TRM_C_API trm_loss* trm_loss_from_preset(const char* name, trm_error* error);
TRM_C_API void trm_loss_free(trm_loss* loss); /* NULL is ignored, here and below */
/* Canonical text, with every parameter spelled out. Belongs to the loss. */
TRM_C_API const char* trm_loss_text(const trm_loss* loss);
/* Names of presets, from 0 to trm_preset_count() - 1; NULL outside. */
TRM_C_API int trm_preset_count(void);
TRM_C_API const char* trm_preset_name(int i);

/* --- batches ------------------------------------------------------------------------------------------------------------ */

enum trm_dtype { TRM_F32 = 1, TRM_F64 = 2, TRM_BF16 = 3, TRM_F16 = 4 };
enum trm_index { TRM_I32 = 1, TRM_I64 = 2 };
enum trm_layout {
    TRM_PACKED = 1,  /* sequence i is tokens [cu_seqlens[i], cu_seqlens[i + 1]), i < sequences */
    TRM_PADDED = 2,  /* sequence i is row i: max_tokens tokens from i * row_stride on (row_stride 0: max_tokens) */
    TRM_SEGMENTS = 3 /* run j is [cu_seqlens[j], cu_seqlens[j + 1]) of sequence sequence_of[j], j < runs */
};

/* One number per token. stride: elements from one token to the next, 0 and 1 mean adjacent; others are not negative and cost
 * a copy into the scratch of the call. data NULL: no such stream. */
typedef struct trm_stream {
    const void* data;
    int64_t stride;
} trm_stream;

/* Log-probabilities are natural logarithms. "real" is double for TRM_F64 and float for all other dtypes: the arithmetic.
 * Where loss_mask is 0, any content is allowed. */
typedef struct trm_batch {
    size_t size;
    int32_t dtype;  /* of the four log-probabilities */
    int32_t layout; /* trm_layout */
    int64_t tokens; /* elements of every stream and output; the layout covers them all (padded: to the end of the last row) */
    int64_t sequences;
    int64_t runs;           /* segments only */
    const void* cu_seqlens; /* packed: sequences + 1 offsets, segments: runs + 1 */
    int32_t cu_dtype;       /* trm_index */
    int32_t partial;        /* not 0: the layout may end before the tokens do; what follows is not touched */
    const int32_t* sequence_of;
    int64_t max_tokens;
    int64_t row_stride;
    trm_stream logp;          /* current policy */
    trm_stream rollout_logp;  /* policy that sampled the tokens */
    trm_stream proximal_logp; /* optional, as what follows: policy before this update step */
    trm_stream ref_logp;      /* reference of a KL penalty */
    trm_stream advantages;    /* real; per token, or sequence_advantages */
    trm_stream given;         /* real; divergence per token that was computed elsewhere */
    trm_stream token_weights; /* real */
    trm_stream loss_mask;     /* uint8_t; not 0: the policy produced this token; absent: all */
    const void* sequence_advantages; /* real, one per sequence */
    const int32_t* group_of;         /* prompt of each sequence, from 0 */
    const uint16_t* rejected;        /* per token, adjacent: from trm_loss_select */
    const uint8_t* marks;
} trm_batch;

typedef struct trm_stream_out {
    void* data;
    int64_t stride; /* as in trm_stream */
} trm_stream_out;

/* Each optional. An output may be the memory of an input of the same type if both begin at the same element; memory that
   overlaps in any other way gives wrong results. */
typedef struct trm_outputs {
    size_t size;
    trm_stream_out grad;    /* real; d loss / d logp */
    trm_stream_out keep;    /* uint8_t; 1 where the token's surrogate reaches the loss */
    trm_stream_out reasons; /* uint16_t; bit i: criterion i rejects, bit 15: not finite */
    trm_stream_out weights; /* real; importance weight of each kept token, else 0 */
    double loss_scale;      /* factor of loss and gradient; trm_outputs_init sets 1 */
    int32_t accumulate;     /* not 0: add to grad */
    int32_t reserved;
} trm_outputs;

enum { TRM_MAX_CRITERIA = 15 };

/* What a batch looked like to the loss. The first block is counts, sums and extrema, which trm_diagnostics_merge adds; the
 * second is what follows from them. Meaning of each: the struct of this name in trm/loss/diagnostics.hpp. */
typedef struct trm_diagnostics {
    size_t size;
    double tokens, nonfinite_tokens, positive_logp_tokens, kept_tokens;
    double sum_x, sum_k3, sum_r_squared, sum_logp, kept_x, kept_k3, max_x, min_x;
    double positive_tokens, negative_tokens, clipped_positive, clipped_negative;
    double sum_weight, sum_weight_squared, max_weight;
    double sequences, kept_sequences, measured_sequences;
    double sum_log_ppl, sum_rollout_log_ppl, sum_ppl, sum_rollout_ppl, sum_ppl_ratio;
    double sum_log_ppl_abs_diff, max_log_ppl_diff, min_log_ppl_diff, sum_seq_ratio, sum_seq_ratio_squared;
    double rejected_tokens[TRM_MAX_CRITERIA], rejected_sequences[TRM_MAX_CRITERIA];

    double kept_fraction, kept_sequence_fraction;
    double kl_k1, kl_k3, kl_k1_kept, kl_k3_kept, kl_k1_masked, kl_k3_masked;
    double mean_ratio, max_ratio, min_ratio, max_k2, max_k3, chi2_token, chi2_sequence;
    double ess, ess_sequence, ess_weight, mean_weight;
    double clip_fraction, clip_fraction_positive, clip_fraction_negative;
    double log_ppl, rollout_log_ppl, ppl, rollout_ppl, ppl_ratio, log_ppl_diff, log_ppl_abs_diff;
} trm_diagnostics;

/* --- the call ----------------------------------------------------------------------------------------------------------- */

/* Runs task(data, 0) ... task(data, n - 1), each once, on any threads, all finished on return. Results do not depend on it. */
typedef void (*trm_task)(void* data, int64_t i);
typedef struct trm_executor {
    void (*run)(void* context, int64_t n, trm_task task, void* data);
    void* context;
} trm_executor;

/* Memory that calls use again: with the same scratch they allocate nothing once they have seen their largest batch. One per
 * thread that calls at the same time. Wherever a scratch is taken NULL is allowed: then the call allocates its own. */
typedef struct trm_scratch trm_scratch;
TRM_C_API trm_scratch* trm_scratch_new(void); /* NULL: out of memory; so are the other trm_..._new */
TRM_C_API void trm_scratch_free(trm_scratch* scratch);
TRM_C_API size_t trm_scratch_bytes(const trm_scratch* scratch);

/* Loss, outputs and diagnostics of the whole batch. out, execute, scratch, loss_value, diagnostics and error may be NULL. */
TRM_C_API int trm_loss_call(const trm_loss* loss, const trm_batch* batch, const trm_outputs* out,
                            const trm_executor* execute, trm_scratch* scratch, double* loss_value,
                            trm_diagnostics* diagnostics, trm_error* error);

/* --- in phases: ranks, micro-batches, slices ---------------------------------------------------------------------------- */

/* Statistics per sequence. Parts of the same sequences merge: over ranks add all sums, take the maximum of all maxima. */
typedef struct trm_totals trm_totals;
TRM_C_API trm_totals* trm_totals_new(void);
TRM_C_API void trm_totals_free(trm_totals* totals);
TRM_C_API double* trm_totals_sums(trm_totals* totals, int64_t* n);
TRM_C_API double* trm_totals_maxima(trm_totals* totals, int64_t* n);
TRM_C_API int trm_totals_merge(trm_totals* into, const trm_totals* from, trm_error* error);

/* What denominators are made of; sums over ranks, micro-batches and slices. */
typedef struct trm_counts trm_counts;
typedef struct trm_prompt_tokens {
    int64_t id;
    double tokens;
} trm_prompt_tokens;
enum { TRM_COUNTS = 6 };
TRM_C_API trm_counts* trm_counts_new(void);
TRM_C_API void trm_counts_free(trm_counts* counts);
TRM_C_API int trm_counts_merge(trm_counts* into, const trm_counts* from, trm_error* error);
/* For other means of exchange: six numbers that add, and, for prompt_mean, the tokens of each prompt. */
TRM_C_API int trm_counts_get(const trm_counts* counts, double values[TRM_COUNTS], trm_error* error);
TRM_C_API int64_t trm_counts_prompts(const trm_counts* counts, trm_prompt_tokens* prompts, int64_t room);
TRM_C_API int trm_counts_add(trm_counts* counts, const double values[TRM_COUNTS], const trm_prompt_tokens* prompts,
                             int64_t n, trm_error* error);

/* Phase 0, only for masks that compare tokens with each other (budget, quantile, prefix, group, ...) and surrogates that mark
 * tokens: writes `rejected` and `marks` [tokens], which are then members of the batch. Over the whole batch. Either may be
 * NULL where the loss does not have it. trm_loss_call does this itself. */
TRM_C_API int trm_loss_select(const trm_loss* loss, const trm_batch* batch, uint16_t* rejected, uint8_t* marks,
                              const trm_executor* execute, trm_scratch* scratch, trm_error* error);
/* Phase 0 as well, only for weights with factors (suffix, segment, surprise): writes `weights` [tokens], adjacent reals of the batch,
 * times its token_weights if it has any; they are then its token_weights. Over whole sequences, with surprise over the whole batch.
 * trm_loss_call does this itself. */
TRM_C_API int trm_loss_weigh(const trm_loss* loss, const trm_batch* batch, void* weights, const trm_executor* execute,
                             trm_scratch* scratch, trm_error* error);
/* Phase 1: overwrites totals. */
TRM_C_API int trm_loss_measure(const trm_loss* loss, const trm_batch* batch, const trm_executor* execute,
                               trm_scratch* scratch, trm_totals* totals, trm_error* error);
/* Phase 2: overwrites counts. */
TRM_C_API int trm_loss_count(const trm_loss* loss, const trm_batch* batch, trm_scratch* scratch, const trm_totals* totals,
                             trm_counts* counts, trm_error* error);
/* Phase 3: this batch's part of loss, gradient and diagnostics. */
TRM_C_API int trm_loss_apply(const trm_loss* loss, const trm_batch* batch, const trm_totals* totals,
                             const trm_counts* counts, const trm_outputs* out, const trm_executor* execute,
                             trm_scratch* scratch, double* loss_value, trm_diagnostics* diagnostics, trm_error* error);
TRM_C_API int trm_diagnostics_merge(trm_diagnostics* into, const trm_diagnostics* from, trm_error* error);

/* Part ith of nth of a batch, for threads that run the same code (ggml's ith and nth): a batch and its outputs, which views
 * the same memory, to be given to the phases. Slice i has the runs (sequences, rows) that begin at token
 * floor(tokens * i / nth) or later and before the begin of slice i + 1; padded: rows rows * i / nth and following. It may be
 * empty. Together the slices have each run once.
 *
 *   every thread:  trm_slice; trm_loss_measure      barrier; one thread, segments only: merge totals in order of ith
 *   every thread:  trm_loss_count                   barrier; one thread: merge counts in order of ith
 *   every thread:  trm_loss_apply with the merged counts (and totals, where they were merged)
 *   one thread:    add the losses, merge the diagnostics, in order of ith
 *
 * Packed and padded: each sequence is whole in one slice, whose totals cover the slice's own sequences and are not merged.
 * Segments: the totals cover all sequences. Kept tokens are those of the whole; loss and gradient too, up to the rounding of
 * sums in double, and bit for bit for the same nth. Phase 0 is taken before slicing. offsets: caller's memory for as many
 * offsets as cu_seqlens has, which the slice refers to; unused for padded. out and out_slice may be NULL together. */
TRM_C_API int trm_slice(const trm_batch* batch, const trm_outputs* out, int32_t ith, int32_t nth, int64_t* offsets,
                        trm_batch* batch_slice, trm_outputs* out_slice, trm_error* error);

/* --- logits ------------------------------------------------------------------------------------------------------------- */

/* [rows, vocab]; the distribution of a row is softmax(row / temperature) over what vocab_mask keeps. Rows are independent:
 * a slice is other pointers and fewer rows. */
typedef struct trm_logits {
    size_t size;
    const void* data;
    int32_t dtype;
    int32_t reserved;
    int64_t rows, vocab;
    int64_t row_stride;        /* elements; 0 means vocab */
    double temperature;        /* trm_logits_init sets 1 */
    const uint8_t* vocab_mask; /* [vocab] or [rows, vocab]: 0 means probability 0; NULL: whole vocabulary */
    int64_t vocab_mask_stride; /* bytes; 0: one mask for all rows */
    const uint8_t* row_mask;   /* [rows]: rows with 0 are not read, their results are 0; NULL: all rows */
} trm_logits;

/* Log-probability and entropy (real) of each row, and logsumexp (double), each [rows] or NULL. targets: [rows] token ids. */
TRM_C_API int trm_log_prob(const trm_logits* logits, const void* targets, int32_t target_dtype, void* logp,
                           double* logsumexp, void* entropy, const trm_executor* execute, trm_error* error);
/* KL(mu || pi), KL(pi || mu) and total variation over the whole vocabulary (real), each [rows] or NULL. Same dtype. */
TRM_C_API int trm_exact_divergence(const trm_logits* mu, const trm_logits* pi, void* kl_mu_pi, void* kl_pi_mu, void* tv,
                                   const trm_executor* execute, trm_error* error);

enum trm_write {
    TRM_OVERWRITE = 0,
    TRM_ACCUMULATE = 1,  /* rows without upstream gradient are not touched */
    TRM_NONZERO_ROWS = 2 /* overwrite, but do not touch rows without upstream gradient */
};
/* d_logits [rows, vocab] of the dtype of the logits, which it may overwrite, from d_logp and, if not NULL, d_entropy (real,
 * [rows]). logsumexp, and with d_entropy entropy, are those of trm_log_prob. */
TRM_C_API int trm_logits_gradient(const trm_logits* logits, const void* targets, int32_t target_dtype,
                                  const double* logsumexp, const void* d_logp, const void* d_entropy,
                                  const void* entropy, void* d_logits, int64_t d_row_stride, int32_t write,
                                  const trm_executor* execute, trm_error* error);

/* --- certificates ------------------------------------------------------------------------------------------------------- */

/* What a certificate of the surrogate's error is made from, one for the run of a step; see trm/bounds/README.md. */
typedef struct trm_evidence trm_evidence;
TRM_C_API trm_evidence* trm_evidence_new(void);
TRM_C_API void trm_evidence_free(trm_evidence* evidence);

/* Each optional. */
typedef struct trm_outcomes {
    size_t size;
    const double* rewards;   /* per sequence */
    const int64_t* groups;   /* prompt of each sequence, the same on every rank; negative or absent: a group of its own */
    const int64_t* horizons; /* most tokens that a response to this prompt may have */
    const double* weights;   /* > 0 */
    const void* kl;          /* real, per token, adjacent: exact KL(mu || pi) */
    const void* tv;          /* real, per token, adjacent: exact total variation */
} trm_outcomes;
/* Reads layout, logp, rollout_logp and loss_mask of the batch, packed or padded. */
TRM_C_API int trm_evidence_add(trm_evidence* evidence, const trm_batch* batch, const trm_outcomes* outcomes,
                               trm_scratch* scratch, trm_error* error);
TRM_C_API int trm_evidence_merge(trm_evidence* into, const trm_evidence* from, trm_error* error);

typedef struct trm_certificate_options {
    size_t size;
    double reward_min, reward_max; /* trm_certificate_options_init sets [0, 1] */
    double level;                  /* of intervals; 0: 0.9 */
    uint64_t seed;                 /* of the bootstrap; 0: the default */
    int64_t horizon;               /* 0: the longest sequence seen */
    int32_t resamples;             /* 0: 1000 */
    int32_t has_surrogate_gain;    /* not 0: certify surrogate_gain; else it is estimated from rewards */
    double surrogate_gain;
} trm_certificate_options;
/* The certificate as a JSON object, to be given to trm_string_free; NULL on failure. Infinite and unknown numbers are
 * null. options may be NULL. */
TRM_C_API char* trm_evidence_certificate(const trm_evidence* evidence, const trm_certificate_options* options,
                                         trm_error* error);
TRM_C_API void trm_string_free(char* text);

/* --- structs of the caller's size --------------------------------------------------------------------------------------- */

#define TRM_C_INIT(type)                    \
    static inline type type##_init(void) {  \
        type made;                          \
        memset(&made, 0, sizeof made);      \
        made.size = sizeof made;            \
        TRM_C_DEFAULTS_##type;              \
        return made;                        \
    }
#define TRM_C_DEFAULTS_trm_error
#define TRM_C_DEFAULTS_trm_batch
#define TRM_C_DEFAULTS_trm_outputs made.loss_scale = 1
#define TRM_C_DEFAULTS_trm_diagnostics
#define TRM_C_DEFAULTS_trm_logits made.temperature = 1
#define TRM_C_DEFAULTS_trm_outcomes
#define TRM_C_DEFAULTS_trm_certificate_options made.reward_max = 1
TRM_C_INIT(trm_error)
TRM_C_INIT(trm_batch)
TRM_C_INIT(trm_outputs)
TRM_C_INIT(trm_diagnostics)
TRM_C_INIT(trm_logits)
TRM_C_INIT(trm_outcomes)
TRM_C_INIT(trm_certificate_options)

#ifdef __cplusplus
}
#endif

#endif
