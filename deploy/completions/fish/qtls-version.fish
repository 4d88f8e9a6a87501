complete -c qtls-version -l json -d 'Print one line of JSON'
complete -c qtls-version -l fips -d 'Tell whether this is a FIPS build, and exit with 0 if it is, or else with 21'
complete -c qtls-version -s h -l help -d 'Print help (see more with \'--help\')'
complete -c qtls-version -s V -l version -d 'Print version'
