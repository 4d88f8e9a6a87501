/*
 * Q-TLS: ML-KEM (FIPS 203) and ML-DSA (FIPS 204) on their own.
 *
 * Generated from crates/qtls-ffi by `cargo run -p xtask -- generate`: change it there.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/**
 * @file
 * For programs that use these algorithms outside of TLS. The rules at the head of qtls.h hold here, too; and:
 *
 * - **Lengths.** What has one length in its parameter set is given with exactly that length: another one is QTLS_E_MISUSE,
 *   and the message says which. The functions that end with `_size` give the lengths.
 * - **Outputs.** Where a function fails, it has written nothing, unless its documentation says so.
 * - **Secrets.** Keys are objects, which are wiped when they are freed. What is written into memory of the program is the
 *   program's to wipe.
 */

#ifndef QTLS_CRYPTO_H
#define QTLS_CRYPTO_H

#include <stddef.h>
#include <stdint.h>
#include <qtls/qtls.h>

/** The parameter sets of ML-KEM. */
typedef enum qtls_ml_kem {
    /** ML-KEM-768, category 3. */
    QTLS_ML_KEM_768 = 768,
    /** ML-KEM-1024, category 5. */
    QTLS_ML_KEM_1024 = 1024,
} qtls_ml_kem;

/** The parameter sets of ML-DSA. */
typedef enum qtls_ml_dsa {
    /** ML-DSA-44, category 2. */
    QTLS_ML_DSA_44 = 44,
    /** ML-DSA-65, category 3. */
    QTLS_ML_DSA_65 = 65,
    /** ML-DSA-87, category 5. */
    QTLS_ML_DSA_87 = 87,
} qtls_ml_dsa;

/** A private key of ML-DSA, with its public key. It never changes: any number of threads may use it at once. */
typedef struct qtls_ml_dsa_key qtls_ml_dsa_key;

/**
 * A decapsulation key of ML-KEM, with its encapsulation key. It never changes: any number of threads may use it at once.
 */
typedef struct qtls_ml_kem_key qtls_ml_kem_key;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * @name ML-KEM
 * @{
 */

/**
 * The length of an encapsulation key.
 *
 * @param set  One of qtls_ml_kem.
 * @return Its length in bytes; 0 where there is no such set.
 */
size_t qtls_ml_kem_encapsulation_key_size(int set);

/**
 * The length of a decapsulation key.
 *
 * @param set  One of qtls_ml_kem.
 * @return Its length in bytes; 0 where there is no such set.
 */
size_t qtls_ml_kem_decapsulation_key_size(int set);

/**
 * The length of a ciphertext.
 *
 * @param set  One of qtls_ml_kem.
 * @return Its length in bytes; 0 where there is no such set.
 */
size_t qtls_ml_kem_ciphertext_size(int set);

/**
 * The length of a shared secret.
 *
 * @param set  One of qtls_ml_kem.
 * @return Its length in bytes, 32 for all sets; 0 where there is no such set.
 */
size_t qtls_ml_kem_secret_size(int set);

/**
 * Makes a key.
 *
 * @param set         One of qtls_ml_kem.
 * @param[out] error  What failed; may be NULL.
 * @return The key, to be freed with qtls_ml_kem_key_free(); NULL where it can't be made.
 * @retval QTLS_E_MISUSE  There is no such set.
 */
qtls_ml_kem_key *qtls_ml_kem_key_generate(int set, qtls_error **error);

/**
 * Reads a decapsulation key as FIPS 203 has it. Its halves are tried together, so that a damaged one is found.
 *
 * @param set         One of qtls_ml_kem.
 * @param bytes       The key.
 * @param bytes_len   Its length in bytes: qtls_ml_kem_decapsulation_key_size().
 * @param[out] error  What failed; may be NULL.
 * @return The key, to be freed with qtls_ml_kem_key_free(); NULL where it can't be read.
 * @retval QTLS_E_MISUSE       There is no such set, or the length is another one.
 * @retval QTLS_E_CERTIFICATE  It is damaged.
 */
qtls_ml_kem_key *qtls_ml_kem_key_import(int set, const void *bytes, size_t bytes_len, qtls_error **error);

/**
 * Writes a decapsulation key as FIPS 203 has it. It is secret: wipe the memory when it isn't needed any more.
 *
 * @param key         The key.
 * @param[out] out    Where it goes.
 * @param out_len     Its length in bytes: qtls_ml_kem_decapsulation_key_size().
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_MISUSE  The length is another one.
 */
int qtls_ml_kem_key_export(const qtls_ml_kem_key *key, void *out, size_t out_len, qtls_error **error);

/**
 * The parameter set of a key.
 *
 * @param key  The key, or NULL.
 * @return One of qtls_ml_kem; 0 for NULL.
 */
int qtls_ml_kem_key_set(const qtls_ml_kem_key *key);

/**
 * Frees a key, and wipes it.
 *
 * @param key  The key; NULL is let through.
 */
void qtls_ml_kem_key_free(qtls_ml_kem_key *key);

/**
 * The encapsulation key of a key, as FIPS 203 has it: what others encapsulate for.
 *
 * @param key         The key.
 * @param[out] out    Where it goes.
 * @param out_len     Its length in bytes: qtls_ml_kem_encapsulation_key_size().
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_MISUSE  The length is another one.
 */
int qtls_ml_kem_encapsulation_key(const qtls_ml_kem_key *key, void *out, size_t out_len, qtls_error **error);

/**
 * Makes a secret, and the ciphertext that gives it to the holder of the decapsulation key and to nobody else.
 *
 * @param set                    One of qtls_ml_kem.
 * @param encapsulation_key      The other side's key.
 * @param encapsulation_key_len  Its length in bytes: qtls_ml_kem_encapsulation_key_size().
 * @param[out] ciphertext        Where the ciphertext goes.
 * @param ciphertext_len         Its length in bytes: qtls_ml_kem_ciphertext_size().
 * @param[out] secret            Where the secret goes. Wipe the memory when it isn't needed any more.
 * @param secret_len             Its length in bytes: qtls_ml_kem_secret_size().
 * @param[out] error             What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_MISUSE      There is no such set, or a length is another one.
 * @retval QTLS_E_PUBLIC_KEY  It is no encapsulation key (FIPS 203, section 7.2).
 */
int qtls_ml_kem_encapsulate(int set,
                            const void *encapsulation_key,
                            size_t encapsulation_key_len,
                            void *ciphertext,
                            size_t ciphertext_len,
                            void *secret,
                            size_t secret_len,
                            qtls_error **error);

/**
 * The secret that a ciphertext gives.
 *
 * A ciphertext that was changed on its way, or was made for another key, is no error here: it gives a secret that nobody
 * else has, the same each time (implicit rejection: FIPS 203, algorithm 18). That the two sides don't have the same secret
 * shows where it is used, such as in a message that can't be decrypted.
 *
 * @param key             The key.
 * @param ciphertext      The ciphertext.
 * @param ciphertext_len  Its length in bytes: qtls_ml_kem_ciphertext_size().
 * @param[out] secret     Where the secret goes. Wipe the memory when it isn't needed any more.
 * @param secret_len      Its length in bytes: qtls_ml_kem_secret_size().
 * @param[out] error      What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_MISUSE  A length is another one.
 */
int qtls_ml_kem_decapsulate(const qtls_ml_kem_key *key,
                            const void *ciphertext,
                            size_t ciphertext_len,
                            void *secret,
                            size_t secret_len,
                            qtls_error **error);

/** @} */

/**
 * @name ML-DSA
 * @{
 */

/**
 * The length of a public key.
 *
 * @param set  One of qtls_ml_dsa.
 * @return Its length in bytes; 0 where there is no such set.
 */
size_t qtls_ml_dsa_public_key_size(int set);

/**
 * The length of a signature.
 *
 * @param set  One of qtls_ml_dsa.
 * @return Its length in bytes; 0 where there is no such set.
 */
size_t qtls_ml_dsa_signature_size(int set);

/**
 * The length of the seed that a key follows from.
 *
 * @param set  One of qtls_ml_dsa.
 * @return Its length in bytes, 32 for all sets; 0 where there is no such set.
 */
size_t qtls_ml_dsa_seed_size(int set);

/**
 * Makes a key.
 *
 * @param set         One of qtls_ml_dsa.
 * @param[out] error  What failed; may be NULL.
 * @return The key, to be freed with qtls_ml_dsa_key_free(); NULL where it can't be made.
 * @retval QTLS_E_MISUSE  There is no such set.
 */
qtls_ml_dsa_key *qtls_ml_dsa_key_generate(int set, qtls_error **error);

/**
 * The key that follows from a seed (FIPS 204, algorithm 6).
 *
 * @param set         One of qtls_ml_dsa.
 * @param seed        The seed: random, and as secret as the key itself.
 * @param seed_len    Its length in bytes: qtls_ml_dsa_seed_size().
 * @param[out] error  What failed; may be NULL.
 * @return The key, to be freed with qtls_ml_dsa_key_free(); NULL where it can't be made.
 * @retval QTLS_E_MISUSE  There is no such set, or the length is another one.
 */
qtls_ml_dsa_key *qtls_ml_dsa_key_from_seed(int set, const void *seed, size_t seed_len, qtls_error **error);

/**
 * Reads a private key in PKCS#8, in any of the three forms of RFC 9881, section 6: as OpenSSL 3.5 writes it. The parameter
 * set is the key's own: see qtls_ml_dsa_key_set().
 *
 * @param pkcs8           The key, in PEM or DER; may be encrypted.
 * @param pkcs8_len       Its length in bytes.
 * @param passphrase      What the key is encrypted with; NULL where it isn't.
 * @param passphrase_len  Its length in bytes, or QTLS_NTS.
 * @param[out] error      What failed; may be NULL.
 * @return The key, to be freed with qtls_ml_dsa_key_free(); NULL where it can't be read.
 * @retval QTLS_E_CERTIFICATE  There is none in it, it is damaged or of something else, or the passphrase is missing or
 *     wrong.
 */
qtls_ml_dsa_key *qtls_ml_dsa_key_read(const void *pkcs8,
                                             size_t pkcs8_len,
                                             const char *passphrase,
                                             size_t passphrase_len,
                                             qtls_error **error);

/**
 * The parameter set of a key.
 *
 * @param key  The key, or NULL.
 * @return One of qtls_ml_dsa; 0 for NULL.
 */
int qtls_ml_dsa_key_set(const qtls_ml_dsa_key *key);

/**
 * Frees a key, and wipes it.
 *
 * @param key  The key; NULL is let through.
 */
void qtls_ml_dsa_key_free(qtls_ml_dsa_key *key);

/**
 * The public key of a key, as FIPS 204 has it.
 *
 * @param key         The key.
 * @param[out] out    Where it goes.
 * @param out_len     Its length in bytes: qtls_ml_dsa_public_key_size().
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_MISUSE  The length is another one.
 */
int qtls_ml_dsa_public_key(const qtls_ml_dsa_key *key, void *out, size_t out_len, qtls_error **error);

/**
 * The public key of a key as a SubjectPublicKeyInfo in DER (RFC 9881, section 4): as OpenSSL 3.5 reads it.
 *
 * @param key         The key.
 * @param[out] out    Where it goes. May be NULL where `capacity` is 0.
 * @param capacity    How many bytes fit.
 * @param[out] len    Its length in bytes, also where it doesn't fit.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_MISUSE  It doesn't fit.
 */
int qtls_ml_dsa_spki(const qtls_ml_dsa_key *key, void *out, size_t capacity, size_t *len, qtls_error **error);

/**
 * A key as PKCS#8 in DER (RFC 9881, section 6): as its seed where that is known, which it is for every key but those that
 * were read without one; else in its expanded form. As OpenSSL 3.5 reads it. It is secret: wipe the memory when it isn't
 * needed any more.
 *
 * @param key         The key.
 * @param[out] out    Where it goes. May be NULL where `capacity` is 0.
 * @param capacity    How many bytes fit.
 * @param[out] len    Its length in bytes, also where it doesn't fit.
 * @param[out] error  What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_MISUSE  It doesn't fit.
 */
int qtls_ml_dsa_pkcs8(const qtls_ml_dsa_key *key,
                      void *out,
                      size_t capacity,
                      size_t *len,
                      qtls_error **error);

/**
 * Signs a message: the message itself, not a hash of it, and with an empty context string (FIPS 204, algorithm 2); the
 * cryptographic module offers no other. Two signatures of the same message differ.
 *
 * @param key             The key.
 * @param message         The message. May be NULL where `message_len` is 0.
 * @param message_len     Its length in bytes.
 * @param[out] signature  Where the signature goes.
 * @param signature_len   Its length in bytes: qtls_ml_dsa_signature_size().
 * @param[out] error      What failed; may be NULL.
 * @return QTLS_OK, or an error.
 * @retval QTLS_E_MISUSE  The length is another one.
 */
int qtls_ml_dsa_sign(const qtls_ml_dsa_key *key,
                     const void *message,
                     size_t message_len,
                     void *signature,
                     size_t signature_len,
                     qtls_error **error);

/**
 * Verifies a signature of a message, as qtls_ml_dsa_sign() makes it.
 *
 * @param set             One of qtls_ml_dsa.
 * @param public_key      The public key: as FIPS 204 has it, or a SubjectPublicKeyInfo in DER.
 * @param public_key_len  Its length in bytes.
 * @param message         The message. May be NULL where `message_len` is 0.
 * @param message_len     Its length in bytes.
 * @param signature       The signature.
 * @param signature_len   Its length in bytes.
 * @param[out] error      What failed; may be NULL.
 * @return QTLS_OK where the signature is one of this message by this key, or an error: nothing but QTLS_OK means that.
 * @retval QTLS_E_SIGNATURE   It is none.
 * @retval QTLS_E_PUBLIC_KEY  The public key is damaged.
 * @retval QTLS_E_MISUSE      There is no such set, or the public key or the signature is of another one by its length.
 */
int qtls_ml_dsa_verify(int set,
                       const void *public_key,
                       size_t public_key_len,
                       const void *message,
                       size_t message_len,
                       const void *signature,
                       size_t signature_len,
                       qtls_error **error);

/** @} */

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* QTLS_CRYPTO_H */
