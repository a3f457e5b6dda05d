/* A text as a QR code in the terminal. */
#pragma once

#include "proto/wire/err.h"

#include <stdio.h>

/* Draws `text` to `out` in half blocks, dark on light whatever the terminal's colours. The code is
 * wiped from memory afterwards. MT_E_TOO_LONG, -ENOMEM.
 */
int mt_qr_print(const char *text, FILE *out) MT_MUST_CHECK;
