"""Gets a page as Chrome would, with BoringSSL (curl_cffi).

    impersonate.py '{"url": "https://localhost:8443/", "ca": "FILE"}'

Prints one JSON object.
"""

import json
import sys

from curl_cffi import CurlHttpVersion, requests

options = json.loads(sys.argv[1])
response = requests.get(options["url"], impersonate="chrome", verify=options["ca"])
versions = {CurlHttpVersion.V1_1: "1.1", CurlHttpVersion.V2_0: "2"}
told = {"status": response.status_code, "version": versions.get(response.http_version), "text": response.text}
print(json.dumps(told))
