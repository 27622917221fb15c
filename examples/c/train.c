/* SPDX-License-Identifier: Apache-2.0 */
/* A policy that learns to answer with the sum of two digits, in plain C: one table of logits, one matrix of gradients, sampling
 * from a policy that is a few updates old, and trm between log-probabilities and the gradient in the logits.
 *
 *     cc -std=c99 -O2 train.c -I<prefix>/include -L<prefix>/lib -ltrm_c -lm -o train && ./train
 *
 * or without installing anything, from the root of trm (gcc warns that -std=c++20 is not for the C file):
 *
 *     cc -std=c++20 -O2 -march=native -Iinclude examples/c/train.c include/trm/interop/c.cpp -lstdc++ -lm -o train && ./train
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <trm/interop/c.h>

enum { DIGITS = 10, PROMPTS = DIGITS * DIGITS, LENGTH = 2, VOCAB = DIGITS, CONTEXTS = PROMPTS * LENGTH };
enum { SAMPLES = 8, SEQUENCES = PROMPTS * SAMPLES, TOKENS = SEQUENCES * LENGTH, STALE = 4, STEPS = 120 };

static float policy[CONTEXTS * VOCAB]; /* logits of each position of each prompt */
static float rollout[CONTEXTS * VOCAB];

/* One batch, as a trainer has it: a row of logits per token. */
static float logits[TOKENS * VOCAB], rollout_logits[TOKENS * VOCAB], d_logits[TOKENS * VOCAB];
static float logp[TOKENS], rollout_logp[TOKENS], kl[TOKENS], grad[TOKENS];
static double logsumexp[TOKENS];
static float advantages[SEQUENCES];
static int32_t tokens[TOKENS], cu_seqlens[SEQUENCES + 1], group_of[SEQUENCES];
static int context_of[TOKENS];

static void check(int code, const trm_error* error) {
    if (code == TRM_OK) return;
    fprintf(stderr, "%s\n", error->message);
    exit(1);
}

static uint64_t state = 20251223;
static double uniform(void) { /* splitmix64 */
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}
static int sample(const float* row) {
    double sum = 0, u;
    int v;
    for (v = 0; v < VOCAB; ++v) sum += exp(row[v]);
    u = uniform() * sum;
    for (v = 0; v < VOCAB - 1; ++v)
        if ((u -= exp(row[v])) < 0) break;
    return v;
}

/* Samples from the rollout policy; the advantage is the reward less the mean of its prompt. Returns the mean reward. */
static double roll_out(void) {
    double total = 0;
    int p, s, t, v;
    for (p = 0; p < PROMPTS; ++p) {
        double rewards[SAMPLES], mean = 0;
        int answer[LENGTH];
        answer[0] = (p / DIGITS + p % DIGITS) / 10;
        answer[1] = (p / DIGITS + p % DIGITS) % 10;
        for (s = 0; s < SAMPLES; ++s) {
            int i = p * SAMPLES + s, right = 0;
            for (t = 0; t < LENGTH; ++t) {
                int k = i * LENGTH + t;
                context_of[k] = p * LENGTH + t;
                for (v = 0; v < VOCAB; ++v) {
                    rollout_logits[k * VOCAB + v] = rollout[context_of[k] * VOCAB + v];
                    logits[k * VOCAB + v] = policy[context_of[k] * VOCAB + v];
                }
                tokens[k] = sample(rollout_logits + k * VOCAB);
                right += tokens[k] == answer[t];
            }
            rewards[s] = right / (double)LENGTH;
            mean += rewards[s] / SAMPLES;
            group_of[i] = p;
        }
        for (s = 0; s < SAMPLES; ++s) advantages[p * SAMPLES + s] = (float)(rewards[s] - mean);
        total += mean / PROMPTS;
    }
    return total;
}

int main(void) {
    trm_error error = trm_error_init();
    trm_batch batch = trm_batch_init();
    trm_outputs out = trm_outputs_init();
    trm_logits now = trm_logits_init(), then;
    trm_diagnostics seen = trm_diagnostics_init();
    trm_scratch* scratch = trm_scratch_new();
    double loss_value, reward = 0, first = 0;
    int i, step;

    /* Sequences in which the exact KL of some token is above 0.05 leave the surrogate. */
    trm_loss* loss = trm_loss_from_text("mask: seq_max_given <= 0.05; surrogate: ppo_clip; aggregate: token_mean", &error);
    if (loss == NULL || scratch == NULL) check(TRM_BAD_SPEC, &error);

    for (i = 0; i <= SEQUENCES; ++i) cu_seqlens[i] = i * LENGTH;
    batch.dtype = TRM_F32;
    batch.layout = TRM_PACKED;
    batch.tokens = TOKENS;
    batch.sequences = SEQUENCES;
    batch.cu_seqlens = cu_seqlens;
    batch.cu_dtype = TRM_I32;
    batch.logp.data = logp;
    batch.rollout_logp.data = rollout_logp;
    batch.given.data = kl;
    batch.sequence_advantages = advantages;
    batch.group_of = group_of;
    out.grad.data = grad;
    now.dtype = TRM_F32;
    now.rows = TOKENS;
    now.vocab = VOCAB;
    then = now;
    now.data = logits;
    then.data = rollout_logits;

    for (step = 0; step < STEPS; ++step) {
        if (step % STALE == 0) memcpy(rollout, policy, sizeof policy); /* the engine gets new weights now and then */
        reward = roll_out();
        if (step == 0) first = reward;
        check(trm_log_prob(&now, tokens, TRM_I32, logp, logsumexp, NULL, NULL, &error), &error);
        check(trm_log_prob(&then, tokens, TRM_I32, rollout_logp, NULL, NULL, NULL, &error), &error);
        check(trm_exact_divergence(&then, &now, kl, NULL, NULL, NULL, &error), &error);
        check(trm_loss_call(loss, &batch, &out, NULL, scratch, &loss_value, &seen, &error), &error);
        check(trm_logits_gradient(&now, tokens, TRM_I32, logsumexp, grad, NULL, NULL, d_logits, 0, TRM_OVERWRITE, NULL,
                                  &error),
              &error);
        for (i = 0; i < TOKENS * VOCAB; ++i) /* gradient descent on the table */
            policy[context_of[i / VOCAB] * VOCAB + i % VOCAB] -= 600 * d_logits[i];
        if (step % 20 == 19)
            printf("step %3d  reward %.3f  loss %+.4f  kept %5.1f%% of sequences  kl %.4f\n", step, reward, loss_value,
                   100 * seen.kept_sequence_fraction, seen.kl_k3);
    }
    trm_loss_free(loss);
    trm_scratch_free(scratch);
    printf("%s\n", reward > first + 0.5 ? "learned" : "not learned");
    return reward > first + 0.5 ? 0 : 1;
}
