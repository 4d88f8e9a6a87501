/* What a user of an installed libqtls does first: the header and the library have to be of one version. */

#include <qtls/qtls.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    const char *version = qtls_version();
    if (version == NULL || strcmp(version, QTLS_VERSION) != 0 || qtls_version_number() != QTLS_VERSION_NUMBER) {
        fprintf(stderr, "the header is of %s, the library of %s\n", QTLS_VERSION, version == NULL ? "(none)" : version);
        return 1;
    }
    printf("%s", version);
    for (size_t index = 0; index < qtls_group_count(); index++) {
        printf(" %s", qtls_group_name(qtls_group_at(index)));
    }
    printf("\n");
    return 0;
}
