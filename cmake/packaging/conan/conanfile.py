# SPDX-License-Identifier: Apache-2.0
"""Conan 2 recipe of the tree that it lies in: conan create cmake/packaging/conan

trm::trm, trm::eigen and trm::c come from trm's own CMake package, so that find_package(trm COMPONENTS ...) is the same with and
without Conan.
"""

import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rmdir

required_conan_version = ">=2.0"


class Trm(ConanFile):
    name = "trm"
    license = "Apache-2.0"
    description = "Trust-region-masked policy-gradient losses, header-only C++20"
    topics = ("reinforcement-learning", "policy-gradient", "simd", "header-only")
    settings = "os", "arch", "compiler", "build_type"
    package_type = "header-library"
    options = {"eigen": [True, False], "c": [True, False]}
    default_options = {"eigen": False, "c": False}
    options_description = {
        "eigen": "require Eigen, for trm::eigen",
        "c": "build trm::c, the shared library of the C interface",
    }

    def set_version(self):
        text = load(self, os.path.join(self.recipe_folder, "..", "..", "..", "include", "trm", "core", "version.hpp"))
        self.version = ".".join(re.findall(r"^#define TRM_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)$", text, re.MULTILINE))

    def export_sources(self):
        root = os.path.join(self.recipe_folder, "..", "..", "..")
        for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "include/*"):
            copy(self, pattern, src=root, dst=self.export_sources_folder)

    def configure(self):
        if self.options.c:
            self.package_type = "shared-library"

    def requirements(self):
        # Headers of trm include xsimd's: what it is compiled with is up to those who include them.
        self.requires("xsimd/[>=8.1.0 <15]", transitive_headers=True)
        if self.options.eigen:
            self.requires("eigen/[>=3.4.0 <6]", transitive_headers=True)
        if self.options.c:
            self.requires("nlohmann_json/[>=3.11 <4]", visible=False)

    def validate(self):
        check_min_cppstd(self, 20)

    def layout(self):
        cmake_layout(self)

    def package_id(self):
        if not self.info.options.c:
            self.info.settings.clear()

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = False  # nothing is written beside the sources
        for variable in ("TRM_BUILD_TESTS", "TRM_BUILD_EXAMPLES", "TRM_BUILD_BENCHMARKS"):
            toolchain.cache_variables[variable] = False
        toolchain.cache_variables["TRM_WITH_EIGEN"] = bool(self.options.eigen)
        toolchain.cache_variables["TRM_BUILD_C"] = bool(self.options.c)
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        copy(self, "LICENSE", src=self.source_folder, dst=os.path.join(self.package_folder, "licenses"))
        CMake(self).install()
        rmdir(self, os.path.join(self.package_folder, "share", "doc"))

    def package_info(self):
        self.cpp_info.set_property("cmake_find_mode", "none")  # trm's own trmConfig.cmake, not one that Conan writes
        self.cpp_info.builddirs = [os.path.join("share", "cmake", "trm")]
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = ["lib"] if self.options.c else []
        self.cpp_info.libs = ["trm_c"] if self.options.c else []
