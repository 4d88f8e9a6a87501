/*
 * ML-KEM and ML-DSA with what is in files, for comparing with another implementation.
 *
 *   keys sign KEY MESSAGE SIGNATURE                 KEY in PKCS#8
 *   keys verify SET PUBLIC MESSAGE SIGNATURE        PUBLIC as it is or as SubjectPublicKeyInfo
 *   keys new-dsa SET KEY PUBLIC                     writes PKCS#8 and SubjectPublicKeyInfo
 *   keys new-kem SET KEY PUBLIC                     writes both as FIPS 203 has them
 *   keys encapsulate SET PUBLIC CIPHERTEXT SECRET
 *   keys decapsulate SET KEY CIPHERTEXT SECRET
 *
 * Prints the name of what it came to; the exit code is 0 for QTLS_OK.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qtls/crypto.h>

struct bytes {
    unsigned char at[16384];
    size_t length;
};

static struct bytes load(const char *path)
{
    struct bytes bytes;
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        perror(path);
        exit(2);
    }
    bytes.length = fread(bytes.at, 1, sizeof bytes.at, file);
    fclose(file);
    return bytes;
}

static void save(const char *path, const void *at, size_t length)
{
    FILE *file = fopen(path, "wb");

    if (file == NULL || fwrite(at, 1, length, file) != length || fclose(file) != 0) {
        perror(path);
        exit(2);
    }
}

static int dsa(int argc, char **argv, qtls_error **error)
{
    static unsigned char signature[8192], pkcs8[8192], spki[8192];
    int set = atoi(argv[2]), status;
    size_t length;

    if (strcmp(argv[1], "sign") == 0 && argc == 5) {
        struct bytes pem = load(argv[2]), message = load(argv[3]);
        qtls_ml_dsa_key *key = qtls_ml_dsa_key_read(pem.at, pem.length, NULL, 0, error);
        length = qtls_ml_dsa_signature_size(qtls_ml_dsa_key_set(key));
        status = key == NULL ? qtls_error_code(*error)
                             : qtls_ml_dsa_sign(key, message.at, message.length, signature, length, error);
        if (status == QTLS_OK)
            save(argv[4], signature, length);
        qtls_ml_dsa_key_free(key);
        return status;
    }
    if (strcmp(argv[1], "verify") == 0 && argc == 6) {
        struct bytes public_key = load(argv[3]), message = load(argv[4]), signed_with = load(argv[5]);
        return qtls_ml_dsa_verify(set, public_key.at, public_key.length, message.at, message.length, signed_with.at,
                                  signed_with.length, error);
    }
    if (strcmp(argv[1], "new-dsa") == 0 && argc == 5) {
        qtls_ml_dsa_key *key = qtls_ml_dsa_key_generate(set, error);
        status = key == NULL ? qtls_error_code(*error) : qtls_ml_dsa_pkcs8(key, pkcs8, sizeof pkcs8, &length, error);
        if (status == QTLS_OK) {
            save(argv[3], pkcs8, length);
            status = qtls_ml_dsa_spki(key, spki, sizeof spki, &length, error);
        }
        if (status == QTLS_OK)
            save(argv[4], spki, length);
        qtls_ml_dsa_key_free(key);
        return status;
    }
    return 1;
}

static int kem(int argc, char **argv, qtls_error **error)
{
    static unsigned char private_key[8192], public_key[8192], ciphertext[8192], secret[32];
    int set = atoi(argv[2]), status;
    size_t private_size = qtls_ml_kem_decapsulation_key_size(set), public_size = qtls_ml_kem_encapsulation_key_size(set);
    size_t ciphertext_size = qtls_ml_kem_ciphertext_size(set);

    if (strcmp(argv[1], "new-kem") == 0 && argc == 5) {
        qtls_ml_kem_key *key = qtls_ml_kem_key_generate(set, error);
        status = key == NULL ? qtls_error_code(*error) : qtls_ml_kem_key_export(key, private_key, private_size, error);
        if (status == QTLS_OK)
            status = qtls_ml_kem_encapsulation_key(key, public_key, public_size, error);
        if (status == QTLS_OK) {
            save(argv[3], private_key, private_size);
            save(argv[4], public_key, public_size);
        }
        qtls_ml_kem_key_free(key);
        return status;
    }
    if (strcmp(argv[1], "encapsulate") == 0 && argc == 6) {
        struct bytes of = load(argv[3]);
        status = qtls_ml_kem_encapsulate(set, of.at, of.length, ciphertext, ciphertext_size, secret, sizeof secret, error);
        if (status == QTLS_OK) {
            save(argv[4], ciphertext, ciphertext_size);
            save(argv[5], secret, sizeof secret);
        }
        return status;
    }
    if (strcmp(argv[1], "decapsulate") == 0 && argc == 6) {
        struct bytes bytes = load(argv[3]), sent = load(argv[4]);
        qtls_ml_kem_key *key = qtls_ml_kem_key_import(set, bytes.at, bytes.length, error);
        status = key == NULL ? qtls_error_code(*error)
                             : qtls_ml_kem_decapsulate(key, sent.at, sent.length, secret, sizeof secret, error);
        if (status == QTLS_OK)
            save(argv[5], secret, sizeof secret);
        qtls_ml_kem_key_free(key);
        return status;
    }
    return 1;
}

int main(int argc, char **argv)
{
    qtls_error *error = NULL;
    int status;

    if (argc < 5)
        return 2;
    status = dsa(argc, argv, &error);
    if (status == 1)
        status = kem(argc, argv, &error);
    puts(status == 1 ? "what?" : qtls_status_name(status));
    if (error != NULL)
        fprintf(stderr, "%s\n", qtls_error_message(error));
    qtls_error_free(error);
    return status == QTLS_OK ? 0 : 1;
}
