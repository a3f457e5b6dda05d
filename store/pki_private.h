/* What pki.c and pki_check.c share. */
#pragma once

#include <gnutls/gnutls.h>

/* `text` as something to import; it borrows the text. */
gnutls_datum_t mt_pki_datum(const char *text);
