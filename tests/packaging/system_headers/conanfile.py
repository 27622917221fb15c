# SPDX-License-Identifier: Apache-2.0
"""Stands in for a package of Conan Center where that cannot be reached: the system's headers under the same names.

conan create . --name xsimd --version 8.1.0 -c user.trm:headers=<directory in which xsimd/ is>
"""

import os

from conan import ConanFile
from conan.tools.files import copy

HEADERS = {"xsimd": "xsimd", "eigen": "*igen*", "nlohmann_json": "nlohmann"}
CMAKE = {
    "xsimd": ("xsimd", "xsimd"),
    "eigen": ("Eigen3", "Eigen3::Eigen"),
    "nlohmann_json": ("nlohmann_json", "nlohmann_json::nlohmann_json"),
}


class SystemHeaders(ConanFile):
    package_type = "header-library"

    def package(self):
        copy(self, f"{HEADERS[self.name]}/*", src=self.conf.get("user.trm:headers"),
             dst=os.path.join(self.package_folder, "include"))

    def package_info(self):
        file_name, target = CMAKE[self.name]
        self.cpp_info.set_property("cmake_file_name", file_name)
        self.cpp_info.set_property("cmake_target_name", target)
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
