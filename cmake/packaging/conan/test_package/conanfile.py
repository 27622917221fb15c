# SPDX-License-Identifier: Apache-2.0
import os

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout


class TestTrm(ConanFile):
    settings = "os", "arch", "compiler", "build_type"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = False  # nothing is written beside the sources
        toolchain.generate()

    def build(self):
        options = self.dependencies["trm"].options
        names = [name for name in ("eigen", "c") if options.get_safe(name)]
        cmake = CMake(self)
        cmake.configure(variables={"COMPONENTS": ";".join(names)})
        cmake.build()

    def test(self):
        if can_run(self):
            for program in ("cpp", "c"):
                path = os.path.join(self.cpp.build.bindir, f"test_{program}")
                if os.path.exists(path):
                    self.run(path, env="conanrun")
