/* SPDX-License-Identifier: Apache-2.0 */
#include <trm/interop/c.h>

int main(void) {
    trm_error error = trm_error_init();
    trm_loss* loss = trm_loss_from_preset("trm_max(0.05)", &error);
    int made = loss != NULL;
    trm_loss_free(loss);
    return made ? 0 : 1;
}
