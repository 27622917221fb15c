/* SPDX-License-Identifier: Apache-2.0 */
/* A loss as nodes of a compute graph in the style of ggml: tensors with byte strides, custom operators that every thread of the
 * host's pool calls as fun(dst, ith, nth, userdata), and a barrier after each node. trm starts no threads: a thread takes slice
 * ith of nth through the phases, and what needs all slices is a node of one task.
 *
 *     measure (all)  ->  merge counts (one)  ->  apply (all)  ->  add up (one)
 *
 * ggml does not differentiate custom operators. It need not: with grad = d loss / d logp as a constant, the gradient of
 * sum(logp * grad) in the parameters is that of the loss, and sum and mul are ggml's own.
 *
 *     cc -std=c99 -O2 graph.c -I<prefix>/include -L<prefix>/lib -ltrm_c -lpthread -lm -o graph && ./graph
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <trm/interop/c.h>

/* --- the host: what ggml has ------------------------------------------------------------------------------------------------ */

enum { MAX_THREADS = 8, SEQUENCES = 37, LENGTH = 50, ROW = 56 }; /* rows are longer than sequences: stride, not shape */

struct tensor { /* f32; element (i0, i1) is at data + i0 * nb[0] + i1 * nb[1] */
    int64_t ne[2];
    size_t nb[2];
    void* data;
};
typedef void (*custom_op)(struct tensor* dst, int ith, int nth, void* userdata);
struct node {
    custom_op fun;
    int n_tasks; /* 0: all threads */
    struct tensor* dst;
    void* userdata;
};
struct graph {
    const struct node* nodes;
    int n, nth;
    pthread_barrier_t barrier;
};
struct worker {
    struct graph* graph;
    int ith;
};

static void* work(void* data) {
    const struct worker* me = data;
    struct graph* g = me->graph;
    int i;
    for (i = 0; i < g->n; ++i) {
        const struct node* node = &g->nodes[i];
        const int tasks = node->n_tasks == 0 ? g->nth : node->n_tasks;
        if (me->ith < tasks) node->fun(node->dst, me->ith, tasks, node->userdata);
        pthread_barrier_wait(&g->barrier);
    }
    return NULL;
}
static void compute(const struct node* nodes, int n, int nth) {
    struct graph g;
    struct worker workers[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    int i;
    g.nodes = nodes;
    g.n = n;
    g.nth = nth;
    pthread_barrier_init(&g.barrier, NULL, (unsigned)nth);
    for (i = 0; i < nth; ++i) {
        workers[i].graph = &g;
        workers[i].ith = i;
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0) abort();
    }
    for (i = 0; i < nth; ++i) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&g.barrier);
}

/* --- the operator ---------------------------------------------------------------------------------------------------------- */

/* What one thread has of the loss. */
struct part {
    trm_scratch* scratch;
    trm_totals* totals;
    trm_counts* counts;
    trm_diagnostics diagnostics;
    trm_error error;
    double loss;
    int code;
};
struct masked_loss {
    const trm_loss* loss;
    trm_batch batch;
    struct part parts[MAX_THREADS];
    trm_counts* counts; /* of all parts */
    int nth, code;
    double value;
    trm_diagnostics diagnostics;
};

/* Padded rows need no memory for offsets. dst, the gradient, has the strides of the inputs. */
static int slice_of(struct masked_loss* op, struct tensor* dst, int ith, int nth, trm_batch* batch, trm_outputs* out) {
    trm_outputs whole = trm_outputs_init();
    whole.grad.data = dst->data;
    return trm_slice(&op->batch, &whole, ith, nth, NULL, batch, out, &op->parts[ith].error);
}
static void measure(struct tensor* dst, int ith, int nth, void* userdata) {
    struct masked_loss* op = userdata;
    struct part* p = &op->parts[ith];
    trm_batch batch;
    trm_outputs out;
    p->code = slice_of(op, dst, ith, nth, &batch, &out);
    if (p->code == TRM_OK) p->code = trm_loss_measure(op->loss, &batch, NULL, p->scratch, p->totals, &p->error);
    if (p->code == TRM_OK) p->code = trm_loss_count(op->loss, &batch, p->scratch, p->totals, p->counts, &p->error);
    if (ith == 0) op->nth = nth;
}
static void merge_counts(struct tensor* dst, int ith, int nth, void* userdata) {
    struct masked_loss* op = userdata;
    int i;
    (void)dst, (void)ith, (void)nth;
    trm_counts_free(op->counts);
    op->counts = trm_counts_new();
    op->code = op->counts == NULL ? TRM_OUT_OF_MEMORY : TRM_OK;
    for (i = 0; i < op->nth && op->code == TRM_OK; ++i) {
        op->code = op->parts[i].code;
        if (op->code == TRM_OK) op->code = trm_counts_merge(op->counts, op->parts[i].counts, &op->parts[i].error);
    }
}
static void apply(struct tensor* dst, int ith, int nth, void* userdata) {
    struct masked_loss* op = userdata;
    struct part* p = &op->parts[ith];
    trm_batch batch;
    trm_outputs out;
    if (op->code != TRM_OK) return; /* some thread failed: the gradient stays as it was */
    p->code = slice_of(op, dst, ith, nth, &batch, &out);
    if (p->code == TRM_OK)
        p->code = trm_loss_apply(op->loss, &batch, p->totals, op->counts, &out, NULL, p->scratch, &p->loss,
                                 &p->diagnostics, &p->error);
}
static void add_up(struct tensor* dst, int ith, int nth, void* userdata) {
    struct masked_loss* op = userdata;
    int i;
    (void)dst, (void)ith, (void)nth;
    op->value = 0;
    op->diagnostics = trm_diagnostics_init();
    for (i = 0; i < op->nth && op->code == TRM_OK; ++i) { /* in order of ith: the same bits for the same number of threads */
        op->code = op->parts[i].code;
        op->value += op->parts[i].loss;
        if (op->code == TRM_OK) op->code = trm_diagnostics_merge(&op->diagnostics, &op->parts[i].diagnostics, NULL);
    }
}

/* --- a batch, and the comparison with one call ---------------------------------------------------------------------------- */

static float logp[SEQUENCES * ROW], rollout_logp[SEQUENCES * ROW], grad[SEQUENCES * ROW], expected[SEQUENCES * ROW];
static float advantages[SEQUENCES];
static uint8_t loss_mask[SEQUENCES * ROW];

int main(void) {
    struct tensor gradient = {{LENGTH, SEQUENCES}, {sizeof(float), ROW * sizeof(float)}, grad};
    struct masked_loss op;
    struct node nodes[] = {{measure, 0, &gradient, &op},
                           {merge_counts, 1, &gradient, &op},
                           {apply, 0, &gradient, &op},
                           {add_up, 1, &gradient, &op}};
    trm_error error = trm_error_init();
    trm_outputs out = trm_outputs_init();
    trm_diagnostics alone = trm_diagnostics_init();
    trm_loss* loss =
        trm_loss_from_text("mask: seq_max_k2 <= 0.05; surrogate: ppo_clip; aggregate: seq_mean_token_mean", &error);
    double value = 0;
    int s, t, i, nth, good = 1;

    memset(&op, 0, sizeof op);
    op.loss = loss;
    op.batch = trm_batch_init();
    for (s = 0; s < SEQUENCES; ++s) {
        advantages[s] = s % 2 == 0 ? 1.0f : -0.7f;
        for (t = 0; t < LENGTH; ++t) {
            const double wave = sin(0.7 * t + 1.3 * s), drift = s % 3 == 0 ? 0.4 : 0.06;
            rollout_logp[s * ROW + t] = (float)(-1.5 + wave);
            logp[s * ROW + t] = (float)(-1.5 + wave + drift * sin(2.9 * t + s));
            loss_mask[s * ROW + t] = t < 10 + s; /* shorter responses are padded */
        }
    }
    op.batch.dtype = TRM_F32;
    op.batch.layout = TRM_PADDED;
    op.batch.sequences = gradient.ne[1];
    op.batch.max_tokens = gradient.ne[0];
    op.batch.row_stride = (int64_t)(gradient.nb[1] / gradient.nb[0]);
    op.batch.tokens = SEQUENCES * ROW;
    op.batch.logp.data = logp;
    op.batch.rollout_logp.data = rollout_logp;
    op.batch.loss_mask.data = loss_mask;
    op.batch.sequence_advantages = advantages;
    for (i = 0; i < MAX_THREADS; ++i) {
        struct part* p = &op.parts[i];
        p->scratch = trm_scratch_new();
        p->totals = trm_totals_new();
        p->counts = trm_counts_new();
        p->error = trm_error_init();
        p->diagnostics = trm_diagnostics_init();
    }

    out.grad.data = expected;
    if (loss == NULL || trm_loss_call(loss, &op.batch, &out, NULL, NULL, &value, &alone, &error) != TRM_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    printf("one call   loss %+.9f  kept %2.0f of %.0f sequences\n", value, alone.kept_sequences, alone.sequences);
    for (nth = 1; nth <= MAX_THREADS; ++nth) {
        double apart = 0;
        memset(grad, 0, sizeof grad);
        compute(nodes, (int)(sizeof nodes / sizeof *nodes), nth);
        for (i = 0; i < nth; ++i)
            if (op.parts[i].code != TRM_OK) fprintf(stderr, "thread %d: %s\n", i, op.parts[i].error.message);
        for (i = 0; i < SEQUENCES * ROW; ++i) {
            double const difference = fabs((double)grad[i] - (double)expected[i]);
            apart = fmax(apart, difference);
            good = good && difference < 1e-8; /* false for NaN, which fmax drops */
        }
        printf("%d threads  loss %+.9f  kept %2.0f of %.0f sequences  gradients %.0e apart\n", nth, op.value,
               op.diagnostics.kept_sequences, op.diagnostics.sequences, apart);
        good = good && op.code == TRM_OK && fabs(op.value - value) < 1e-12 &&
               op.diagnostics.kept_tokens == alone.kept_tokens && alone.kept_sequences < alone.sequences;
    }
    for (i = 0; i < MAX_THREADS; ++i) {
        trm_scratch_free(op.parts[i].scratch);
        trm_totals_free(op.parts[i].totals);
        trm_counts_free(op.parts[i].counts);
    }
    trm_counts_free(op.counts);
    trm_loss_free(loss);
    printf("%s\n", good ? "the same" : "DIFFERENT");
    return good ? 0 : 1;
}
