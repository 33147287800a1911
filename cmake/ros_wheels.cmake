# For builds against ROS 2 from PyPI wheels; scripts/setup passes it as CMAKE_PROJECT_INCLUDE.
#
# Generated Python message libraries export the include folders of the Python they were built with.
# Those of the wheels exist on no other machine, and CMake refuses such targets: drop them. Ours
# lie in .venv, inside the source folder, which CMake refuses to export: keep them for this build
# only.
function(_ros_wheels_fix_includes)
  get_property(imported DIRECTORY PROPERTY IMPORTED_TARGETS)
  get_property(own DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS imported own)
    if(NOT target MATCHES "__rosidl_generator_py$")
      continue()
    endif()
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    set(kept "")
    foreach(folder IN LISTS folders)
      if(target IN_LIST own)
        list(APPEND kept "$<BUILD_INTERFACE:${folder}>")
      elseif(EXISTS "${folder}")
        list(APPEND kept "${folder}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()

cmake_language(DEFER CALL _ros_wheels_fix_includes)
