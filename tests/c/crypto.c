/*
 * ML-KEM and ML-DSA on their own: round trips, and everything that can be wrong.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "check.h"

#include <qtls/crypto.h>

static void ml_kem(int set, size_t public_size, size_t private_size, size_t ciphertext_size)
{
    static unsigned char public_key[2000], private_key[4000], ciphertext[2000], other[4000];
    unsigned char secret[32], same[32], rejected[32];
    qtls_error *error = NULL;
    qtls_ml_kem_key *key, *read, *stranger;
    size_t part;

    CHECK_INT(public_size, qtls_ml_kem_encapsulation_key_size(set));
    CHECK_INT(private_size, qtls_ml_kem_decapsulation_key_size(set));
    CHECK_INT(ciphertext_size, qtls_ml_kem_ciphertext_size(set));
    CHECK_INT(32, qtls_ml_kem_secret_size(set));
    key = CHECK_MADE(qtls_ml_kem_key_generate(set, &error));
    stranger = CHECK_MADE(qtls_ml_kem_key_generate(set, &error));
    CHECK_INT(set, qtls_ml_kem_key_set(key));
    CHECK_OK(qtls_ml_kem_encapsulation_key(key, public_key, public_size, &error));
    CHECK_OK(qtls_ml_kem_encapsulation_key(stranger, other, public_size, &error));
    CHECK(memcmp(public_key, other, public_size) != 0);

    CHECK_OK(qtls_ml_kem_encapsulate(set, public_key, public_size, ciphertext, ciphertext_size, secret, 32, &error));
    CHECK_OK(qtls_ml_kem_decapsulate(key, ciphertext, ciphertext_size, same, 32, &error));
    CHECK(memcmp(secret, same, 32) == 0);
    /* Another one's ciphertext, or a changed one: no error, and no secret that anybody else has. */
    CHECK_OK(qtls_ml_kem_decapsulate(stranger, ciphertext, ciphertext_size, same, 32, &error));
    CHECK(memcmp(secret, same, 32) != 0);
    ciphertext[ciphertext_size / 2] ^= 1;
    CHECK_OK(qtls_ml_kem_decapsulate(key, ciphertext, ciphertext_size, rejected, 32, &error));
    CHECK(memcmp(secret, rejected, 32) != 0);
    CHECK_OK(qtls_ml_kem_decapsulate(key, ciphertext, ciphertext_size, same, 32, &error));
    CHECK(memcmp(rejected, same, 32) == 0);
    ciphertext[ciphertext_size / 2] ^= 1;

    /* Out and in again. */
    CHECK_OK(qtls_ml_kem_key_export(key, private_key, private_size, &error));
    read = CHECK_MADE(qtls_ml_kem_key_import(set, private_key, private_size, &error));
    CHECK_OK(qtls_ml_kem_decapsulate(read, ciphertext, ciphertext_size, same, 32, &error));
    CHECK(memcmp(secret, same, 32) == 0);
    CHECK_OK(qtls_ml_kem_encapsulation_key(read, other, public_size, &error));
    CHECK(memcmp(public_key, other, public_size) == 0);
    /* But for the last 32 bytes, which may be any, damage is found wherever it is. */
    for (part = 3; part + 32 < private_size; part += private_size / 7) {
        private_key[part] ^= 1;
        CHECK_NOT_MADE(QTLS_E_CERTIFICATE, qtls_ml_kem_key_import(set, private_key, private_size, &error));
        private_key[part] ^= 1;
    }

    /* Lengths that are not those of the set. */
    memset(same, 0xa5, 32);
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_kem_decapsulate(key, ciphertext, ciphertext_size - 1, same, 32, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_kem_decapsulate(key, ciphertext, ciphertext_size, same, 31, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_kem_encapsulate(set, public_key, public_size + 1, ciphertext, ciphertext_size,
                                                        same, 32, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_kem_encapsulate(set, public_key, public_size, ciphertext, ciphertext_size + 1,
                                                        same, 32, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_kem_encapsulation_key(key, other, public_size - 1, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_kem_key_export(key, other, 0, &error));
    CHECK_NOT_MADE(QTLS_E_MISUSE, qtls_ml_kem_key_import(set, private_key, private_size - 1, &error));
    CHECK_INT(0xa5, same[0]);
    CHECK_INT(0xa5, same[31]);
    /* Coefficients that are no numbers modulo q. */
    memset(other, 0xff, public_size);
    CHECK_INT(QTLS_E_PUBLIC_KEY,
              qtls_ml_kem_encapsulate(set, other, public_size, ciphertext, ciphertext_size, same, 32, &error));
    CHECK_INT(QTLS_FAULT_PEER, qtls_error_fault(error));
    qtls_error_free(error);
    error = NULL;
    CHECK_INT(0xa5, same[0]);
    /* In the same place: what is made is written once nothing is read any more. */
    CHECK_OK(qtls_ml_kem_encapsulate(set, public_key, public_size, public_key, ciphertext_size, secret, 32, &error));
    CHECK_OK(qtls_ml_kem_decapsulate(key, public_key, ciphertext_size, public_key, 32, &error));
    CHECK(memcmp(secret, public_key, 32) == 0);
    qtls_ml_kem_key_free(key);
    qtls_ml_kem_key_free(read);
    qtls_ml_kem_key_free(stranger);
}

static void ml_dsa(int set, size_t public_size, size_t signature_size)
{
    static const char message[] = "a message", changed[] = "a massage";
    static unsigned char public_key[3000], spki[3000], pkcs8[6000], signature[5000], other[5000];
    size_t spki_len, pkcs8_len, len;
    qtls_error *error = NULL;
    qtls_ml_dsa_key *key, *read, *stranger;

    CHECK_INT(public_size, qtls_ml_dsa_public_key_size(set));
    CHECK_INT(signature_size, qtls_ml_dsa_signature_size(set));
    CHECK_INT(32, qtls_ml_dsa_seed_size(set));
    key = CHECK_MADE(qtls_ml_dsa_key_generate(set, &error));
    stranger = CHECK_MADE(qtls_ml_dsa_key_generate(set, &error));
    CHECK_INT(set, qtls_ml_dsa_key_set(key));
    CHECK_OK(qtls_ml_dsa_public_key(key, public_key, public_size, &error));
    CHECK_OK(qtls_ml_dsa_sign(key, message, 9, signature, signature_size, &error));
    CHECK_OK(qtls_ml_dsa_sign(key, message, 9, other, signature_size, &error));
    CHECK(memcmp(signature, other, signature_size) != 0);

    CHECK_OK(qtls_ml_dsa_verify(set, public_key, public_size, message, 9, signature, signature_size, &error));
    CHECK_OK(qtls_ml_dsa_verify(set, public_key, public_size, message, 9, other, signature_size, &error));
    CHECK_INT(QTLS_E_SIGNATURE,
              qtls_ml_dsa_verify(set, public_key, public_size, changed, 9, signature, signature_size, &error));
    CHECK_INT(QTLS_FAULT_PEER, qtls_error_fault(error));
    qtls_error_free(error);
    error = NULL;
    CHECK_STATUS(QTLS_E_SIGNATURE,
                 qtls_ml_dsa_verify(set, public_key, public_size, message, 8, signature, signature_size, &error));
    signature[signature_size / 2] ^= 1;
    CHECK_STATUS(QTLS_E_SIGNATURE,
                 qtls_ml_dsa_verify(set, public_key, public_size, message, 9, signature, signature_size, &error));
    signature[signature_size / 2] ^= 1;
    CHECK_OK(qtls_ml_dsa_public_key(stranger, other, public_size, &error));
    CHECK_STATUS(QTLS_E_SIGNATURE,
                 qtls_ml_dsa_verify(set, other, public_size, message, 9, signature, signature_size, &error));
    /* A message without bytes is one. */
    CHECK_OK(qtls_ml_dsa_sign(key, NULL, 0, other, signature_size, &error));
    CHECK_OK(qtls_ml_dsa_verify(set, public_key, public_size, NULL, 0, other, signature_size, &error));
    CHECK_STATUS(QTLS_E_SIGNATURE,
                 qtls_ml_dsa_verify(set, public_key, public_size, "", 1, other, signature_size, &error));

    /* The other forms of keys. */
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_dsa_spki(key, NULL, 0, &spki_len, &error));
    CHECK_INT(public_size + 22, spki_len);
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_dsa_spki(key, spki, spki_len - 1, &spki_len, &error));
    CHECK_OK(qtls_ml_dsa_spki(key, spki, sizeof spki, &spki_len, &error));
    CHECK(memcmp(spki + 22, public_key, public_size) == 0);
    CHECK_OK(qtls_ml_dsa_verify(set, spki, spki_len, message, 9, signature, signature_size, &error));
    CHECK_OK(qtls_ml_dsa_pkcs8(key, pkcs8, sizeof pkcs8, &pkcs8_len, &error));
    CHECK_INT(54, pkcs8_len);
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_dsa_pkcs8(key, pkcs8, 53, &len, &error));
    CHECK_INT(54, len);
    read = CHECK_MADE(qtls_ml_dsa_key_read(pkcs8, pkcs8_len, NULL, 0, &error));
    CHECK_INT(set, qtls_ml_dsa_key_set(read));
    CHECK_OK(qtls_ml_dsa_public_key(read, other, public_size, &error));
    CHECK(memcmp(public_key, other, public_size) == 0);
    qtls_ml_dsa_key_free(read);
    /* The seed is at its end. */
    read = CHECK_MADE(qtls_ml_dsa_key_from_seed(set, pkcs8 + pkcs8_len - 32, 32, &error));
    CHECK_OK(qtls_ml_dsa_public_key(read, other, public_size, &error));
    CHECK(memcmp(public_key, other, public_size) == 0);
    CHECK_NOT_MADE(QTLS_E_MISUSE, qtls_ml_dsa_key_from_seed(set, pkcs8, 31, &error));
    pkcs8[5] ^= 1;
    CHECK_NOT_MADE(QTLS_E_CERTIFICATE, qtls_ml_dsa_key_read(pkcs8, pkcs8_len, NULL, 0, &error));
    CHECK_NOT_MADE(QTLS_E_CERTIFICATE, qtls_ml_dsa_key_read("no key", 6, NULL, 0, &error));
    CHECK_NOT_MADE(QTLS_E_CERTIFICATE, qtls_ml_dsa_key_read("", 0, NULL, 0, &error));

    /* What is of another set, or of none. */
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_dsa_verify(set, public_key, public_size - 1, message, 9, signature,
                                                   signature_size, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_dsa_verify(set, public_key, public_size, message, 9, signature,
                                                   signature_size - 1, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_dsa_verify(set, spki, spki_len - 1, message, 9, signature, signature_size, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_dsa_verify(set == QTLS_ML_DSA_44 ? QTLS_ML_DSA_65 : QTLS_ML_DSA_44, spki, spki_len,
                                                   message, 9, signature, signature_size, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_dsa_sign(key, message, 9, other, signature_size - 1, &error));
    CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_dsa_public_key(key, other, public_size + 1, &error));
    qtls_ml_dsa_key_free(key);
    qtls_ml_dsa_key_free(read);
    qtls_ml_dsa_key_free(stranger);
}

/* Keys of certificates are keys, too: of ML-DSA, and of nothing else. */
static void keys_from_pem(void)
{
    static char pem[8192];
    qtls_error *error = NULL;
    qtls_ml_dsa_key *key;
    FILE *file = fopen(pki("server-key-ml-dsa-65.pem"), "r");
    size_t length;

    CHECK(file != NULL);
    length = fread(pem, 1, sizeof pem, file);
    fclose(file);
    key = CHECK_MADE(qtls_ml_dsa_key_read(pem, length, NULL, 0, &error));
    CHECK_INT(QTLS_ML_DSA_65, qtls_ml_dsa_key_set(key));
    qtls_ml_dsa_key_free(key);
    file = fopen(pki("server-key-ecdsa-p384.pem"), "r");
    CHECK(file != NULL);
    length = fread(pem, 1, sizeof pem, file);
    fclose(file);
    CHECK_INT(1, qtls_ml_dsa_key_read(pem, length, NULL, 0, &error) == NULL);
    CHECK_INT(QTLS_E_CERTIFICATE, qtls_error_code(error));
    CHECK_TEXT("the key: the private key is ECDSA P-384, not ML-DSA", qtls_error_message(error));
    qtls_error_free(error);
}

static void there_are_no_other_sets(void)
{
    static const int others[] = {0, 1, -1, 512, 44, 45, 1 << 30};
    unsigned char bytes[32] = {0};
    qtls_error *error = NULL;
    size_t i;

    for (i = 0; i < sizeof others / sizeof others[0]; i++) {
        CHECK_INT(0, qtls_ml_kem_encapsulation_key_size(others[i]));
        CHECK_INT(0, qtls_ml_kem_decapsulation_key_size(others[i]));
        CHECK_INT(0, qtls_ml_kem_ciphertext_size(others[i]));
        CHECK_INT(0, qtls_ml_kem_secret_size(others[i]));
        CHECK_NOT_MADE(QTLS_E_MISUSE, qtls_ml_kem_key_generate(others[i], &error));
        CHECK_NOT_MADE(QTLS_E_MISUSE, qtls_ml_kem_key_import(others[i], bytes, 32, &error));
        CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_kem_encapsulate(others[i], bytes, 32, bytes, 32, bytes, 32, &error));
        if (others[i] == QTLS_ML_DSA_44)
            continue;
        CHECK_INT(0, qtls_ml_dsa_public_key_size(others[i]));
        CHECK_INT(0, qtls_ml_dsa_signature_size(others[i]));
        CHECK_INT(0, qtls_ml_dsa_seed_size(others[i]));
        CHECK_NOT_MADE(QTLS_E_MISUSE, qtls_ml_dsa_key_generate(others[i], &error));
        CHECK_NOT_MADE(QTLS_E_MISUSE, qtls_ml_dsa_key_from_seed(others[i], bytes, 32, &error));
        CHECK_STATUS(QTLS_E_MISUSE, qtls_ml_dsa_verify(others[i], bytes, 32, bytes, 32, bytes, 32, &error));
    }
}

int main(void)
{
    ml_kem(QTLS_ML_KEM_768, 1184, 2400, 1088);
    ml_kem(QTLS_ML_KEM_1024, 1568, 3168, 1568);
    ml_dsa(QTLS_ML_DSA_44, 1312, 2420);
    ml_dsa(QTLS_ML_DSA_65, 1952, 3309);
    ml_dsa(QTLS_ML_DSA_87, 2592, 4627);
    keys_from_pem();
    there_are_no_other_sets();
    return 0;
}
