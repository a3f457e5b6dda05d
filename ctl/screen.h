/* The terminal for a picture that fills it: raw keys, the alternate screen, signals as events. Put
 * back as it was on every way out. */
#pragma once

#include "proto/wire/err.h"

#include <stdbool.h>

struct mt_screen;

/* MT_E_UNSUPPORTED when standard input and output are no terminal. */
int mt_screen_open(struct mt_screen **out) MT_MUST_CHECK;
/* Restores the terminal; NULL is allowed. */
void mt_screen_close(struct mt_screen *s);
/* The size now. */
void mt_screen_size(const struct mt_screen *s, unsigned *columns, unsigned *lines);

#define MT_SCREEN_TIMEOUT (-1)
#define MT_SCREEN_RESIZED (-2)
#define MT_SCREEN_END     (-3) /* a signal to end, or the terminal has gone */
#define MT_SCREEN_UP      256
#define MT_SCREEN_DOWN    257
/* Waits for a key: its byte, or one of the above. */
int mt_screen_wait(struct mt_screen *s, int timeout_ms);
