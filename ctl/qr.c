#include "ctl/qr.h"

#include "proto/wire/encode.h"

#include <errno.h>
#include <qrencode.h>
#include <stdbool.h>
#include <stddef.h>

#define QUIET 4 /* modules around the code, as its standard asks for */

/* Black, beyond the code's edge white. */
static bool is_dark(const QRcode *code, int x, int y)
{
	return x >= 0 && y >= 0 && x < code->width && y < code->width &&
	       (code->data[y * code->width + x] & 1) != 0;
}

int mt_qr_print(const char *text, FILE *out)
{
	/* By upper and lower half: each character shows two modules. */
	static const char *const blocks[2][2] = {{" ", "\u2584"}, {"\u2580", "\u2588"}};
	QRcode *code = QRcode_encodeString8bit(text, 0, QR_ECLEVEL_L);
	int size;

	if (code == NULL) {
		return errno == ENOMEM ? -ENOMEM : MT_E_TOO_LONG;
	}
	size = code->width + 2 * QUIET;
	for (int y = 0; y < size; y += 2) {
		fputs("\033[40;97m", out);
		for (int x = 0; x < size; x++) {
			/* What is drawn is the light part. */
			bool up = !is_dark(code, x - QUIET, y - QUIET);
			bool down = y + 1 < size && !is_dark(code, x - QUIET, y + 1 - QUIET);

			fputs(blocks[up][down], out);
		}
		fputs("\033[0m\n", out);
	}
	mt_wipe(code->data, (size_t)code->width * (size_t)code->width);
	QRcode_free(code);
	return 0;
}
