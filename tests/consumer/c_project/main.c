/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <trm/interop/c.h>

int main(void) {
    const float logp[] = {-0.9f, -1.2f, -0.3f}, rollout_logp[] = {-1.0f, -1.1f, -0.3f}, advantage = 1;
    const int32_t cu_seqlens[] = {0, 3};
    float grad[3] = {0, 0, 0};
    trm_error error = trm_error_init();
    trm_batch batch = trm_batch_init();
    trm_outputs out = trm_outputs_init();
    trm_loss* loss = trm_loss_from_preset("trm_max(0.05)", &error);
    int code;
    batch.dtype = TRM_F32;
    batch.layout = TRM_PACKED;
    batch.tokens = 3;
    batch.sequences = 1;
    batch.cu_seqlens = cu_seqlens;
    batch.cu_dtype = TRM_I32;
    batch.logp.data = logp;
    batch.rollout_logp.data = rollout_logp;
    batch.sequence_advantages = &advantage;
    out.grad.data = grad;
    code = trm_loss_call(loss, &batch, &out, NULL, NULL, NULL, NULL, &error);
    trm_loss_free(loss);
    if (code != TRM_OK) fprintf(stderr, "%s\n", error.message);
    return code == TRM_OK && grad[0] < -1 && grad[1] > -1 && trm_version() > 0 ? 0 : 1;
}
